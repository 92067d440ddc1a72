"""One model behind HTTP: called as apps do it by themselves, by two servers made for models, and by tenure."""
