"""What an app says of itself."""
