"""The directory: list, add, read, change, remove, search; and what each refuses."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from roster.database import users
from roster.embedder import Embedding, embedder
from roster.embeddings import embeddings
from roster.main import app
from roster.revisions import revisions
from tenure import override
from tenure.models.apart import ModelApart

if TYPE_CHECKING:
    from httpx import AsyncClient, Response

    from tenure import Scope

pytestmark = pytest.mark.anyio

LARGEST_ID = 2**63 - 1
names = (f"new-{number}" for number in count())


async def added(client: AsyncClient, **given: str) -> dict[str, Any]:
    """Add a user, and give it."""
    response = await client.post("/users", json={"username": next(names), "email": "new@example.com", **given})
    assert response.status_code == 201, response.text
    user: dict[str, Any] = response.json()
    return user


def refused(response: Response, status: int) -> dict[str, Any]:
    """Give an error answer, once it is one, in the one form."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    return problem


async def test_a_list_has_exactly_id_and_username(client: AsyncClient) -> None:
    """`GET /users` answers a list of objects with exactly `id` and `username`, of at most 100 users."""
    users = (await client.get("/users")).json()
    assert len(users) == 100
    assert {frozenset(user) for user in users} == {frozenset({"id", "username"})}


async def test_pages_follow_their_links(client: AsyncClient) -> None:
    """Following `Link` from page to page gives every user once, in order, and ends."""
    found: list[int] = []
    url = "/users?limit=64"
    while url:
        page = await client.get(url)
        found += [user["id"] for user in page.json()]
        url = page.links.get("next", {}).get("url", "")
    everyone = (await client.get("/users", params={"limit": 1000})).json()
    assert found == [user["id"] for user in everyone]
    assert found == sorted(set(found))


async def test_a_prefix_filters_names_and_is_kept_by_the_link(client: AsyncClient) -> None:
    """`username` keeps the users whose names start so, literally, on every page; the last one has no link."""
    for name in ("zz_a", "zz_b", "zz.c", "zzzd"):
        await added(client, username=name)
    first = await client.get("/users", params={"username": "zz_", "limit": 1})
    second = await client.get(first.links["next"]["url"])
    assert [user["username"] for page in (first, second) for user in page.json()] == ["zz_a", "zz_b"]
    assert second.links == {}


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("limit=0", "query.limit"),
        ("limit=1001", "query.limit"),
        ("limit=many", "query.limit"),
        ("after=-1", "query.after"),
        (f"after={LARGEST_ID + 1}", "query.after"),
        ("username=%00", "query.username"),
        ("username=Upper", "query.username"),
        (f"username={'a' * 65}", "query.username"),
    ],
)
async def test_a_list_is_bounded(client: AsyncClient, query: str, place: str) -> None:
    """A page size, a position or a prefix outside its limits is answered 422, naming the place."""
    assert list(refused(await client.get(f"/users?{query}"), 422)["errors"]) == [place]


async def test_an_added_user_is_where_the_answer_says(client: AsyncClient) -> None:
    """`POST /users` answers 201 with the whole user, and `Location` leads to the same."""
    given = {"username": "ada", "email": "ada@example.com", "bio": "Plays the lute. ♪"}
    response = await client.post("/users", json=given)
    user = response.json()
    assert response.status_code == 201
    assert list(user) == ["id", "username", "email", "bio", "created_at"]
    assert {name: user[name] for name in given} == given
    assert (await client.get(response.headers["location"])).json() == user


async def test_a_name_is_taken_once(client: AsyncClient) -> None:
    """Of ten who ask for a name at once one gets it, and nine are answered 409; nor can it be changed to."""
    wanted = {"username": "wanted", "email": "wanted@example.com"}
    responses = await asyncio.gather(*(client.post("/users", json=wanted) for _ in range(10)))
    assert sorted(response.status_code for response in responses) == [201, *[409] * 9]
    other = await added(client)
    answer = await client.patch(f"/users/{other['id']}", json={"username": "wanted"})
    assert refused(answer, 409)["detail"] == "another user has this username"
    assert (await client.get(f"/users/{other['id']}")).json() == other


@pytest.mark.parametrize("method", ["post", "patch"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", ""),
        ("username", "Upper"),
        ("username", "a" * 65),
        ("username", "a\0"),
        ("username", "a\n"),
        ("username", 1),
        ("email", "nobody"),
        ("email", f"{'a' * 250}@example.com"),
        ("bio", "a" * 2001),
        ("bio", "nul\0nul"),
        ("bio", "\ud800"),
        ("id", 1),
    ],
)
async def test_each_field_is_bounded(client: AsyncClient, method: str, field: str, value: object) -> None:
    """A field that is too long, malformed, unknown or not storable is answered 422, naming it and not repeating it."""
    url = "/users" if method == "post" else "/users/1"
    body = {"username": next(names), "email": "new@example.com", field: value}
    headers = {"content-type": "application/json"}
    response = await client.request(method, url, content=json.dumps(body), headers=headers)  # escaped: not all is UTF-8
    errors = refused(response, 422)["errors"]
    assert list(errors) == [f"body.{field}"]
    assert len(errors[f"body.{field}"]) == 1


@pytest.mark.parametrize(
    "body", ["", "{", "null", "[]", "[" * 50_000, '{"username": ' + "9" * 5000 + "}", "\xff", r'{"\ud800": 1}']
)
async def test_a_body_that_is_not_an_object_is_refused(client: AsyncClient, body: str) -> None:
    """What is no JSON object is the client's mistake, however it is broken."""
    headers = {"content-type": "application/json"}
    for response in (
        await client.post("/users", content=body.encode("latin-1"), headers=headers),
        await client.patch("/users/1", content=body.encode("latin-1"), headers=headers),
    ):
        assert response.status_code in {400, 422}
        refused(response, response.status_code)


async def test_a_change_leaves_the_rest(client: AsyncClient) -> None:
    """`PATCH` changes what is given; what is absent or null stays."""
    user = await added(client, bio="Before.")
    response = await client.patch(f"/users/{user['id']}", json={"bio": "After.", "email": None})
    assert response.status_code == 200
    assert response.json() == {**user, "bio": "After."}
    assert (await client.patch(f"/users/{user['id']}", json={})).json() == {**user, "bio": "After."}


async def test_a_removed_user_is_gone(client: AsyncClient) -> None:
    """`DELETE` answers 204 with no body once, and after that everyone is answered 404."""
    url = f"/users/{(await added(client))['id']}"
    response = await client.delete(url)
    assert (response.status_code, response.content) == (204, b"")
    for after in (await client.get(url), await client.patch(url, json={}), await client.delete(url)):
        assert refused(after, 404)["detail"] == "there is no user with this id"


@pytest.mark.parametrize("user_id", ["0", "-1", str(LARGEST_ID + 1), "9" * 5000, "one", "1.5", "%00"])
async def test_an_id_is_a_positive_bigint(client: AsyncClient, user_id: str) -> None:
    """An id that no user can have is answered 422; the largest that one can have is looked for."""
    assert list(refused(await client.get(f"/users/{user_id}"), 422)["errors"]) == ["path.user_id"]
    refused(await client.get(f"/users/{LARGEST_ID}"), 404)


async def test_a_search_finds_by_meaning(client: AsyncClient) -> None:
    """A question that shares no word with a bio finds it first, and again by what it changes to."""
    user = await added(client, bio="Cures sick puppies and kittens at the veterinary clinic.")
    found = (await client.get("/users/search", params={"q": "animal doctor", "limit": 3})).json()
    assert list(found[0]) == ["id", "username", "bio", "score"]
    assert found[0]["id"] == user["id"]
    assert [match["score"] for match in found] == sorted((match["score"] for match in found), reverse=True)
    await client.patch(f"/users/{user['id']}", json={"bio": "Jumps out of aeroplanes with a parachute."})
    found = (await client.get("/users/search", params={"q": "skydiving", "limit": 1})).json()
    assert [match["id"] for match in found] == [user["id"]]
    await client.delete(f"/users/{user['id']}")
    found = (await client.get("/users/search", params={"q": "skydiving", "limit": 100})).json()
    assert len(found) == 100
    assert user["id"] not in {match["id"] for match in found}


async def test_a_user_without_a_bio_is_not_found_by_meaning(client: AsyncClient, scope: Scope) -> None:
    """A search ranks bios; who has none is in no answer."""
    user = await added(client)
    everyone = await (await scope.get(users)).driver_pool.fetchval("SELECT count(*) FROM users WHERE bio <> ''")
    found = (await client.get("/users/search", params={"q": "nothing", "limit": 100})).json()
    assert len(found) == min(100, everyone)
    assert user["id"] not in {match["id"] for match in found}


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("", "query.q"),
        ("q=", "query.q"),
        (f"q={'a' * 501}", "query.q"),
        ("q=%00", "query.q"),
        ("q=a&limit=101", "query.limit"),
    ],
)
async def test_a_search_is_bounded(client: AsyncClient, query: str, place: str) -> None:
    """A question that is empty or too long, and a limit above 100, are answered 422."""
    assert list(refused(await client.get(f"/users/search?{query}"), 422)["errors"]) == [place]


async def test_what_was_found_is_not_looked_for_again(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question is embedded once for all who ask it, at the same time or later; another limit is another question."""
    embedded: list[str] = []
    real = ModelApart.__call__

    async def embed(embedder: ModelApart[str, Embedding], text: str) -> Embedding:
        embedded.append(text)
        return await real(embedder, text)

    monkeypatch.setattr(ModelApart, "__call__", embed)
    asked: dict[str, str | int] = {"q": "who was asked for before", "limit": 2}
    answers = await asyncio.gather(*(client.get("/users/search", params=asked) for _ in range(5)))
    answers.append(await client.get("/users/search", params=asked))
    assert {answer.text for answer in answers} == {answers[0].text}
    assert len(answers[0].json()) == 2
    assert embedded == [asked["q"]]
    assert len((await client.get("/users/search", params={**asked, "limit": 3})).json()) == 3


async def test_embeddings_of_another_model_are_made_anew(client: AsyncClient, scope: Scope) -> None:
    """Bios whose embedding another version made are not compared, and are embedded again at start."""
    opened, current = await scope.get(users), await scope.get(embedder)
    connections = opened.driver_pool
    await connections.execute("UPDATE users SET embedding = '{1}', embedding_version = 'old'")
    search = "/users/search?q=anyone&limit=10"
    assert (await client.get(search)).json() == []
    await embeddings.factory(opened, current, await scope.get(revisions))
    versions = await connections.fetch("SELECT DISTINCT embedding_version FROM users")
    assert [row["embedding_version"] for row in versions] == [current.version]
    assert len((await client.get(search)).json()) == 10


async def test_a_change_while_bios_are_embedded_is_kept(client: AsyncClient, scope: Scope) -> None:
    """A bio that changes while the one before is embedded keeps the embedding that it was changed with."""
    opened, current = await scope.get(users), await scope.get(embedder)
    user = await added(client, bio="Keeps bees.")
    connections = opened.driver_pool
    await connections.execute("UPDATE users SET embedding_version = 'old' WHERE id = $1", user["id"])

    class Changing:
        version = current.version

        async def many(self, texts: list[str]) -> list[Embedding]:
            (await client.patch(f"/users/{user['id']}", json={"bio": "Repairs steam engines."})).raise_for_status()
            return [Embedding([0.0] * 384, "late") for _ in texts]

    await embeddings.factory(opened, Changing(), await scope.get(revisions))
    kept = await connections.fetchrow("SELECT embedding, embedding_version FROM users WHERE id = $1", user["id"])
    assert kept["embedding_version"] == current.version
    assert sum(number * number for number in kept["embedding"]) == pytest.approx(1)


async def test_who_comes_when_the_model_has_too_much_to_do_is_told_so(client: AsyncClient) -> None:
    """Of many who add users at once, those that there is no room for are told when to come again; others are added."""
    bio = "collects stamps and coins and postcards " * 4
    users = [{"username": next(names), "email": "new@example.com", "bio": f"{number} {bio}"} for number in range(160)]
    answers = await asyncio.gather(*(client.post("/users", json=user) for user in users))
    busy = [answer for answer in answers if answer.status_code == 503]
    assert busy
    assert {answer.status_code for answer in answers} == {201, 503}
    for answer in busy:
        assert refused(answer, 503)["detail"] == "the service is too busy at the moment"
        assert int(answer.headers["retry-after"]) > 0


async def test_who_waits_too_long_for_the_model_is_told_so(client: AsyncClient, scope: Scope) -> None:
    """A bio that is not embedded in time is answered 504, in the one form."""
    hurried = (await scope.get(embedder)).within(0.000_001)
    with override(app, {embedder: lambda: hurried}):
        answer = await client.patch("/users/1", json={"bio": "Waits."})
    assert refused(answer, 504)["detail"] == "the service did not answer in time"
