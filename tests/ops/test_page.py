"""The page `/ops`, in a real browser, from real servers."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tenure.ops.page import page as page_of
from tests.ops.pages.browsing import NARROW, WIDE, answers
from tests.ops.pages.colours import SEEN_WITHOUT, contrast, distance, themes
from tests.ops.pages.many import COUNT
from tests.ops.pages.servers import DEADLINE, PROJECT, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Locator

SCOPES = ("function", "request", "app", "host", "cluster")
EVIL = '<img src=x onerror="window.pwned=1">'
STYLE = (PROJECT / "src/tenure/ops/browser/page.css").read_text()


@pytest.fixture(scope="module")
def shop(dsn: str) -> Iterator[Server]:
    """The app `shop`, in two workers."""
    with Server("shop", workers=2, DATABASE_URL=dsn) as server:
        yield server


@pytest.fixture(scope="module")
def many() -> Iterator[Server]:
    """The app `many`, in one worker."""
    with Server("many") as server:
        yield server


def node(page: Page, name: str) -> Locator:
    """Find a node of the graph."""
    return page.locator(f"#nodes > [data-id={json.dumps(name)}]")


def names(page: Page) -> set[str]:
    """Tell which nodes are drawn."""
    return set(page.locator("#nodes > .node").evaluate_all("nodes => nodes.map(node => node.dataset.id)"))


def focused(page: Page) -> str | None:
    """Tell which node has the keyboard."""
    found: str | None = page.evaluate("document.activeElement.dataset.id ?? null")
    return found


def file_of(page: Page, kind: str) -> str:
    """Export what is shown, and give what was saved."""
    page.locator("#export").click()
    with page.expect_download() as download:
        page.locator(f"[data-export={kind}]").click()
    return download.value.path().read_text()


def test_it_is_one_document_that_names_no_other_place() -> None:
    """All that it needs is in it; nothing in it is run by an attribute."""
    document = bytes(page_of().body).decode()
    assert [link for link in re.findall(r"(?:https?:)?//[\w.-]+\.\w+", document) if "www.w3.org" not in link] == []
    assert re.findall(r"<[^>]*\son\w+=", document.partition("<script")[0]) == []
    assert re.findall(r"\.(?:innerHTML|outerHTML|insertAdjacentHTML|write)\b|\beval\b|new Function", document) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(theme: str) -> None:
    """Each colour of text has the contrast of WCAG AA on each ground."""
    colours = themes(STYLE)[theme]
    words = [name for name in colours if name.startswith("scope-")]
    words += ["text", "muted", "accent", "good", "busy", "warn", "bad", "quiet"]
    grounds = ["surface", "sunken", "ground", "accent-soft"]
    weak = {(word, ground): round(contrast(colours[word], colours[ground]), 2) for word in words for ground in grounds}
    assert {pair: found for pair, found in weak.items() if found < 4.5} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_scopes_are_told_apart_by_who_sees_few_colours(theme: str) -> None:
    """Their colours differ also for who lacks cones for red or green."""
    found = themes(STYLE)[theme]
    colours = [found[f"scope-{scope}"] for scope in SCOPES]
    for one, other in itertools.combinations(colours, 2):
        for matrix in (None, *SEEN_WITHOUT.values()):
            assert distance(one, other, matrix) > 15


def test_it_draws_who_needs_whom(shop: Server, opened: Callable[..., Page]) -> None:
    """The program's own resources are there, each with scope and state in words; the rest is folded until asked for."""
    page = opened(shop)
    expect(page.locator("#app")).to_have_text("shop")
    expect(page.locator("#app-state")).to_have_text("ready")
    expect(node(page, "catalogue").locator(".kind")).to_have_text("app")
    expect(node(page, "catalogue").locator(".word")).to_have_text("degraded")
    expect(node(page, "orders").locator(".kind")).to_have_text("host · state")
    assert {"catalogue", "database", "database.connection", "orders", "basket", EVIL} <= names(page)
    assert not {"prices", "operations"} & names(page)
    label = node(page, "catalogue").get_attribute("aria-label")
    assert label is not None
    assert "catalogue, app, degraded" in label
    assert "needs database.connection" in label
    page.locator("#plumbing").check()
    expect(node(page, "prices")).to_be_visible()
    expect(node(page, "operations")).to_be_visible()


def test_its_policy_lets_nothing_else_run(shop: Server, opened: Callable[..., Page]) -> None:
    """A script that found its way in would not run, nor a style that came with it."""
    page = opened(shop, quiet=False)
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.pwned = 1';
        document.body.append(script);
        document.body.setAttribute('style', 'display: none');
    }""")
    assert page.evaluate("window.pwned") is None
    expect(page.locator("body")).to_be_visible()


def test_a_click_focuses(shop: Server, opened: Callable[..., Page]) -> None:
    """What is near is left, as far as the slider says; beside it stands all that is known; Escape leaves."""
    page = opened(shop)
    before = names(page)
    node(page, EVIL).click()
    page.locator("#depth").fill("1")
    expect(page.locator("#nodes > .node")).to_have_count(2)
    assert names(page) == {EVIL, "catalogue"}
    page.locator("#depth").fill("2")
    expect(node(page, "database.connection")).to_be_visible()
    node(page, "catalogue").click()
    details = page.locator("#details")
    expect(details.locator("h2")).to_have_text("catalogue")
    expect(details).to_contain_text("shop.catalogue")
    expect(details).to_contain_text(re.compile(r"tests/ops/pages/shop\.py:\d+"))
    expect(details).to_contain_text("Know what there is to be bought.")
    expect(details.locator("section", has_text="Needs").locator("button.link")).to_have_text(
        ["prices", "database.connection"]
    )
    expect(details.locator("section", has_text="Needed by").locator("button.link")).to_have_text([EVIL, "basket"])
    expect(details.locator("section", has_text="Used by routes")).to_contain_text("GET /orders")
    expect(details.locator("section", has_text="Checks")).to_contain_text("only 1 to be had")
    details.locator("button.link", has_text="prices").click()
    expect(details.locator("h2")).to_have_text("prices")
    expect(node(page, "prices")).to_have_class(re.compile("selected"))
    page.keyboard.press("Escape")
    expect(details).to_be_hidden()
    assert names(page) == before


def test_the_keyboard_goes_everywhere(shop: Server, opened: Callable[..., Page]) -> None:
    """The slash filters; arrows move along the edges; Enter focuses; Escape leaves, and the place is kept."""
    page = opened(shop)
    page.keyboard.press("/")
    page.keyboard.type("catalogue")
    expect(page.locator("#nodes > .node")).to_have_count(1)
    page.locator("#find").fill("")
    expect(node(page, "basket")).to_be_visible()
    node(page, "basket").focus()
    page.keyboard.press("ArrowRight")
    assert focused(page) == "catalogue"
    page.keyboard.press("ArrowRight")
    assert focused(page) == "database.connection"
    page.keyboard.press("ArrowLeft")
    assert focused(page) == "catalogue"
    expect(page.locator("#tip")).to_contain_text("tests.ops.pages.shop.catalogue")
    page.keyboard.press("Enter")
    expect(page.locator("#details h2")).to_have_text("catalogue")
    assert focused(page) == "catalogue"
    page.keyboard.press("Escape")
    expect(page.locator("#details")).to_be_hidden()
    assert focused(page) == "catalogue"
    page.keyboard.press("2")
    expect(page.locator("#view-startup")).to_be_visible()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()


def test_all_that_acts_has_a_name(shop: Server, opened: Callable[..., Page]) -> None:
    """Who cannot see hears what each button, box and tab is."""
    page = opened(shop)
    node(page, "database").click()
    nameless = page.evaluate("""() => {
        const name = each => each.getAttribute('aria-label') || each.textContent || each.labels?.[0]?.textContent || '';
        return [...document.querySelectorAll('button, input, select, [role=button], [role=tab], [role=treeitem]')]
            .filter(each => !name(each).trim()).map(each => each.outerHTML);
    }""")
    assert nameless == []
    for tablist in page.get_by_role("tablist").all():
        expect(tablist.get_by_role("tab", selected=True)).to_have_count(1)


def test_filters_narrow(shop: Server, opened: Callable[..., Page]) -> None:
    """By words, scope, state and route; what was filtered away is bridged; Escape clears."""
    page = opened(shop)
    page.locator("#scope").select_option("host")
    expect(page.locator("#nodes > .node")).to_have_count(1)
    page.locator("#scope").select_option("")
    page.locator("#state").select_option("degraded")
    expect(page.locator("#nodes > .node")).to_have_count(1)
    page.locator("#state").select_option("")
    page.locator("#route").select_option("GET /slow")
    expect(page.locator("#nodes > .node")).to_have_count(2)
    assert names(page) == {"database", "database.connection"}
    page.locator("#find").fill("there is no such thing")
    expect(page.locator("#nothing")).to_have_text("Nothing matches the filter.")
    page.locator("#tab-graph").focus()
    page.keyboard.press("Escape")
    expect(node(page, "catalogue")).to_be_visible()


def test_each_worker_has_a_tab(shop: Server, opened: Callable[..., Page]) -> None:
    """All are merged at first, with pools added up; each alone is a click or an arrow key away."""
    pids = sorted(str(worker["pid"]) for worker in shop.told()["workers"])
    page = opened(shop)
    tabs = page.locator("#workers [role=tab]")
    expect(tabs).to_have_count(3)
    assert sorted(re.findall(r"pid (\d+)", " ".join(tabs.all_inner_texts()))) == pids
    page.locator("#tab-pools").click()
    size = page.locator(".pool [data-figure=size] dd")
    expect(size).to_have_text("4")
    tabs.first.click()
    page.keyboard.press("ArrowRight")
    expect(tabs.nth(1)).to_have_attribute("aria-selected", "true")
    expect(size).to_have_text("2")


def test_a_shared_counter_is_told_once(shop: Server, opened: Callable[..., Page]) -> None:
    """It is not added up, for each worker tells the same count."""
    for _ in range(5):
        count = httpx.get(f"{shop.url}/orders").raise_for_status().json()
    page = opened(shop, "/ops#view=pools")
    expect(page.locator(".counter b")).to_have_text(str(count))
    expect(page.locator(".counter small")).to_contain_text("one for all workers")


def test_a_pool_moves_under_load(shop: Server, opened: Callable[..., Page]) -> None:
    """What is in use and who waits is told and drawn as it changes, and the tab says so from afar."""
    page = opened(shop, "/ops#view=pools")
    chart = page.locator(".pool > .chart")
    answers(page)
    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(httpx.get, f"{shop.url}/slow", timeout=DEADLINE) for _ in range(8)]
        expect(page.locator("#tab-pools")).to_contain_text("waiting")
        expect(page.locator(".pool [data-figure=waiting]")).to_have_class(re.compile("alarming"))
        expect(chart.locator(".waiting")).to_have_attribute("d", re.compile(r"^M.*L"))
        assert {answer.result().status_code for answer in asked} <= {200, 503}
    expect(page.locator("#tab-pools")).to_contain_text("0 in use")
    heights = re.findall(r"[ML][\d.]+ ([\d.]+)", chart.locator(".in-use").get_attribute("d") or "")
    assert len(set(heights)) > 1
    label = chart.get_attribute("aria-label")
    assert label is not None
    assert re.search("at most [2-4] in use of 4, at most [1-9] waiting", label)  # one worker may have got all of them


def test_an_answer_moves_nothing(shop: Server, opened: Callable[..., Page]) -> None:
    """What somebody has zoomed, focused and scrolled to stays as it is while answers come."""
    page = opened(shop)
    kept = node(page, "catalogue").element_handle()
    node(page, "catalogue").click()
    node(page, "catalogue").focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.locator("#details").evaluate("panel => (panel.scrollTop = 60)")
    where = "[document.getElementById('world').style.transform, document.getElementById('details').scrollTop]"
    before = page.evaluate(where)
    answers(page, 3)
    assert page.evaluate(where) == before
    assert before[1] == 60
    assert focused(page) == "catalogue"
    assert kept.evaluate("kept => kept.isConnected")


def test_the_graph_is_zoomed_and_moved(shop: Server, opened: Callable[..., Page]) -> None:
    """By wheel, buttons and dragging, which focuses nothing; Fit shows it whole again."""
    page = opened(shop, reduced_motion="reduce")
    seen = "document.getElementById('world').style.transform"
    whole = page.evaluate(seen)
    page.mouse.move(600, 500)
    page.mouse.wheel(0, -400)
    page.wait_for_function(f"whole => {seen} !== whole", arg=whole)
    box = node(page, "catalogue").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 60, steps=4)
    page.mouse.up()
    moved = node(page, "catalogue").bounding_box()
    assert moved is not None
    assert round(moved["x"] - box["x"]) == 100
    expect(page.locator("#details")).to_be_hidden()
    page.locator("#zoom-fit").click()
    assert page.evaluate(seen) == whole


def test_a_click_may_tremble(shop: Server, opened: Callable[..., Page]) -> None:
    """Who moves the mouse by a hair while clicking meant the click."""
    page = opened(shop)
    box = node(page, "catalogue").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 22, box["y"] + 21)
    page.mouse.up()
    expect(page.locator("#details h2")).to_have_text("catalogue")


def test_a_graph_runs_down_in_a_high_window(shop: Server, opened: Callable[..., Page]) -> None:
    """Where layers are seen larger below each other they are, and the arrow keys follow; a wider window turns them."""
    page = opened(shop, viewport={"width": 720, "height": 1200}, reduced_motion="reduce")
    box_of = "name => document.querySelector(`#nodes > [data-id=${name}]`).getBoundingClientRect()"
    boxes = f"['basket', 'catalogue'].map({box_of})"
    assert page.evaluate(f"(([one, other]) => one.bottom < other.top)({boxes})")
    node(page, "basket").focus()
    page.keyboard.press("ArrowDown")
    assert focused(page) == "catalogue"
    node(page, "orders").focus()
    page.set_viewport_size({"width": 1600, "height": 700})
    page.wait_for_function(f"() => (([one, other]) => one.right < other.left)({boxes})")
    assert focused(page) == "orders"  # which another place has moved within the document
    node(page, "basket").focus()
    page.keyboard.press("ArrowRight")
    assert focused(page) == "catalogue"


def test_nobody_is_asked_while_nobody_looks(shop: Server, opened: Callable[..., Page]) -> None:
    """A page in the background rests, and goes on when it is seen again."""
    page = opened(shop)
    answers(page, 1)
    hide = """hidden => {
        Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(hide, arg=True)
    page.wait_for_timeout(300)  # for one that is on its way
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert asked == []
    page.evaluate(hide, arg=False)
    answers(page, 2)


def test_the_theme_is_chosen_and_kept(shop: Server, opened: Callable[..., Page]) -> None:
    """It follows the system until somebody chooses, and their choice outlasts a visit."""
    page = opened(shop, color_scheme="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(ground)
    page.locator("#theme").click()
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    expect(page.locator("#pulse")).to_have_text("Live")
    assert page.evaluate(ground) == light
    page.keyboard.press("t")
    assert page.evaluate(ground) == dark


def test_motion_is_spared_who_does_not_want_it(shop: Server, opened: Callable[..., Page]) -> None:
    """Nodes glide, but not where the system asks for less motion."""
    told = "getComputedStyle(document.querySelector('.node')).transitionDuration"
    assert opened(shop).evaluate(told) != "0s"
    assert opened(shop, reduced_motion="reduce").evaluate(told) == "0s"


def test_the_json_is_what_the_app_told(shop: Server, opened: Callable[..., Page]) -> None:
    """The export is the last answer, to the byte."""
    page = opened(shop)
    told: list[str] = []
    page.on("response", lambda response: told.append(response.text()) if "workers.json" in response.url else None)
    answers(page)
    assert file_of(page, "json") in told


def test_the_mermaid_is_the_graph_that_is_shown(shop: Server, opened: Callable[..., Page]) -> None:
    """Each line is a node or an edge of what is drawn, and no name breaks out of its label."""
    page = opened(shop)
    first, *lines = file_of(page, "mermaid").splitlines()
    assert first == "flowchart LR"
    nodes = [found for line in lines if (found := re.fullmatch(r'  (n\d+)\["([^"<>]*)<br/>([^"<>]*)"\]', line))]
    edges = [found for line in lines if (found := re.fullmatch(r"  (n\d+) (?:-->|-\.->) (n\d+)", line))]
    styles = r"  (?:classDef \w+ stroke:#[0-9a-f]{6},stroke-width:2px|class [n\d,]+ \w+)"
    rest = [line for line in lines if re.fullmatch(styles, line)]
    assert len(nodes) + len(edges) + len(rest) == len(lines)
    assert len(nodes) == len(names(page))
    assert len(edges) == page.locator("#edges > path").count()
    assert {"catalogue", "#60;img src=x onerror=#34;window.pwned=1#34;#62;"} <= {found[2] for found in nodes}


@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_the_svg_stands_alone(shop: Server, opened: Callable[..., Page], viewport: ViewportSize) -> None:
    """It is XML, has the names as text and its colours with it, and runs nothing; of a list it is the graph."""
    page = opened(shop, viewport=viewport)
    root = ET.fromstring(file_of(page, "svg"))  # noqa: S314 (our own)
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"catalogue", "database", f"{EVIL[:27]}…"} <= texts
    assert not [element for element in root.iter() if "script" in element.tag or "style" in element.attrib]
    box = next(element for element in root.iter() if element.get("data-state") == "degraded")
    assert {child.get("fill", "")[:3] for child in box if child.tag.endswith("rect")} >= {"rgb"}


def test_names_are_text(shop: Server, opened: Callable[..., Page]) -> None:
    """A name that is HTML is shown as it is written, wherever it is shown."""
    page = opened(shop)
    node(page, EVIL).hover()
    expect(page.locator("#tip .title")).to_have_text(EVIL)
    node(page, EVIL).click()
    expect(page.locator("#details h2")).to_have_text(EVIL)
    expect(page.locator("#focus-name")).to_have_text(EVIL)
    expect(page.locator("#d-doc")).to_have_text("Believe </script><script>window.pwned=1</script> nothing.")
    page.locator("#as-list").click()
    expect(page.locator("#outline .name", has_text=EVIL)).to_be_visible()
    page.locator("#tab-startup").click()
    expect(page.locator("#bars .link", has_text=EVIL)).to_be_visible()
    assert page.locator("img").count() == 0
    assert page.evaluate("window.pwned") is None


def test_a_start_is_a_waterfall(shop: Server, opened: Callable[..., Page]) -> None:
    """Each start is a bar; the slowest is named; what the app waited for is marked, in words too."""
    page = opened(shop, "/ops#view=startup")
    expect(page.locator("#startup-told")).to_contain_text(re.compile(r"ready after .* The slowest was \S+"))
    assert page.locator("#bars .critical").count() == page.locator("#critical li").count()
    expect(page.locator("#bars .critical .took").first).to_contain_text("critical")
    expect(page.locator("#bars .took", has_text="slowest")).to_have_count(1)
    page.locator("#bars .link", has_text="catalogue").click()
    expect(page.locator("#details h2")).to_have_text("catalogue")


def test_a_check_is_told_with_its_result(shop: Server, opened: Callable[..., Page]) -> None:
    """What it said, how long it took and when is there; the tab has the worst of all."""
    page = opened(shop)
    expect(page.locator("#tab-health")).to_contain_text("warn")
    page.locator("#tab-health").click()
    check = page.locator(".check", has_text="catalogue")
    expect(check).to_contain_text("only 1 to be had")
    expect(check).to_contain_text(re.compile(r"\d+ ms · \d+ s ago"))
    expect(check).to_contain_text("not critical · shop")


def test_a_guard_may_read_what_stands_behind_the_address(shop: Server, opened: Callable[..., Page]) -> None:
    """The page hands its own query on to what it asks; without it, it is refused."""
    assert httpx.get(f"{shop.url}/guarded/ops").status_code == 403
    page = opened(shop, "/guarded/ops?key=sesame")
    expect(node(page, "catalogue")).to_be_visible()


def test_a_start_in_the_background_is_watched(opened: Callable[..., Page], tmp_path: Path) -> None:
    """Who starts, and who waits for whom, is told while it is so; then that all is ready."""
    loaded = tmp_path / "loaded"
    with Server("slow", LOADED=str(loaded)) as server:
        page = opened(server)
        expect(page.locator("#app-state")).to_have_text("starting")
        expect(node(page, "model").locator(".word")).to_have_text("starting")
        expect(node(page, "search").locator(".word")).to_have_text("waiting")
        node(page, "search").click()
        expect(page.locator("#details section", has_text="Waiting for").locator("button.link")).to_have_text("model")
        page.locator("#tab-startup").click()
        expect(page.locator("#bars .bar", has_text="search")).to_contain_text("waits for model")
        expect(page.locator("#bars .bar", has_text="model").first).to_contain_text("so far")
        loaded.touch()
        expect(page.locator("#app-state")).to_have_text("ready")
        expect(page.locator("#startup-told")).to_contain_text("The slowest was model")
        expect(page.locator("#critical li")).to_have_text([re.compile("^model "), re.compile("^search ")])


def test_a_start_that_fails_is_told(opened: Callable[..., Page], tmp_path: Path) -> None:
    """Of an app that does not run any more, the page says so, and which resource failed."""
    loaded = tmp_path / "loaded"
    with Server("slow", LOADED=str(loaded)) as server:
        page = opened(server, quiet=False)
        (tmp_path / "half").write_text("no memory")
        (tmp_path / "half").rename(loaded)
        expect(page.locator("#trouble")).to_contain_text("The app did not start: model failed")


def test_a_worker_that_is_stopped_is_silent(shop: Server, opened: Callable[..., Page]) -> None:
    """Its tab says so while the others are shown; what was told of it comes back with it."""
    page = opened(shop, quiet=False)
    stopped = shop.told()["workers"][0]
    try:
        os.kill(stopped["pid"], signal.SIGSTOP)
        tab = page.locator(f"#workers [data-worker='{stopped['worker']}']")
        expect(tab).to_contain_text("silent")
        expect(page.locator("#place")).to_contain_text("1 worker, 1 silent")
        tab.click()
        expect(page.locator("#nothing")).to_contain_text("does not answer")
    finally:
        os.kill(stopped["pid"], signal.SIGCONT)
    expect(tab).to_contain_text("ready")
    expect(node(page, "catalogue")).to_be_visible()


def test_a_server_that_is_gone_is_told(opened: Callable[..., Page]) -> None:
    """The page says since when nobody answers and from when its picture is, and goes on when somebody does."""
    with Server("many") as server:
        page = opened(server, quiet=False)
        server.stop()
        expect(page.locator("#trouble")).to_contain_text(
            re.compile("No worker answers, since .* What is shown is from")
        )
        expect(page.locator("#pulse")).to_have_text("No answer")
        expect(page.locator("#nodes > .node").first).to_be_visible()
        server.start()
        expect(page.locator("#pulse")).to_have_text("Live")
        expect(page.locator("#trouble")).to_be_hidden()


def test_many_resources_start_by_file(many: Server, opened: Callable[..., Page]) -> None:
    """Above 60 there is a node for each file, which opens; all are one click away, and a filter finds any."""
    page = opened(many, reduced_motion="reduce")
    drawn = page.evaluate("performance.getEntriesByName('tenure:drawn')[0].startTime")
    print(f"\n{COUNT} resources: drawn {drawn:.0f} ms after the navigation began", file=sys.stderr)
    nodes = page.locator("#nodes > .node")
    expect(nodes).to_have_count(12)
    node(page, "file shop/core.py").focus()
    page.keyboard.press("Enter")
    expect(nodes).to_have_count(18)
    assert focused(page) in {name for name in names(page) if name.startswith("core_")}
    took = page.evaluate("""() => {
        const began = performance.now();
        document.getElementById('by-file').click();
        return performance.now() - began;
    }""")
    print(f"{COUNT} resources: laid out and drawn in {took:.0f} ms", file=sys.stderr)
    expect(nodes).to_have_count(COUNT)
    apart = page.evaluate("""() => {
        const boxes = [...document.querySelectorAll('#nodes > .node > .box')].map(box => box.getBoundingClientRect());
        const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
        return boxes.every((one, at) => boxes.slice(at + 1).every(other => !meet(one, other)));
    }""")
    assert apart
    page.locator("#find").fill("stock service")
    expect(nodes).to_have_count(1)
    node(page, "stock_service").click()
    expect(page.locator("#details h2")).to_have_text("stock_service")


@pytest.mark.parametrize("name", ["shop", "many"])
def test_a_narrow_page_is_a_list_and_never_wider_than_the_screen(
    request: pytest.FixtureRequest, opened: Callable[..., Page], name: str
) -> None:
    """At 400 pixels the graph is an indented list, read with the arrow keys; nothing sticks out sideways."""
    page = opened(request.getfixturevalue(name), viewport=NARROW)
    rows = page.get_by_role("treeitem")
    expect(rows.first).to_be_visible()
    wide = "document.documentElement.scrollWidth"
    for view in ("startup", "pools", "health", "graph"):
        page.locator(f"#tab-{view}").click()
        assert page.evaluate(wide) == 400
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("End")
    page.keyboard.press("Home")
    expect(rows.first).to_be_focused()
    if name == "many":  # the first is a file
        page.keyboard.press("Enter")
        expect(page.locator(".row:focus")).to_have_attribute("data-id", re.compile("^orders_"))
    page.keyboard.press("Enter")
    expect(page.locator("#details")).to_be_visible()
    assert page.evaluate(wide) == 400
    page.locator("#d-close").click()
    rows.last.click()
    expect(page.locator("#details h2")).to_have_text(rows.last.locator(".name").inner_text())
    page.keyboard.press("Escape")
    page.locator("#as-graph").click()
    expect(page.locator("#nodes > .node").first).to_be_visible()
    assert page.evaluate(wide) == 400
