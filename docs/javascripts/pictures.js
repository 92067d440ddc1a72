// A picture that has a version for dark pages follows the switch of the site, not the system alone.
function follow() {
  const dark = document.body.getAttribute("data-md-color-scheme") === "slate";
  for (const source of document.querySelectorAll("picture > source[srcset*='-dark']")) {
    source.media = dark ? "all" : "not all";
  }
}

new MutationObserver(follow).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
follow();
