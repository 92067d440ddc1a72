"""With LitServe: processes that compute behind one that answers HTTP; as many as its documentation has for a CPU."""

import sys

import litserve

from benchmarks.models.minilm import BATCHES, MAX_BATCH, Hit, load


class Search(litserve.LitAPI):
    """The model, in a process that computes."""

    def setup(self, device: str) -> None:
        """Load it."""
        del device
        self.search = load()

    def decode_request(self, request) -> str:  # noqa: ANN001 (LitServe takes an annotation for what the body is)
        """Give what is searched for."""
        return str(request["q"])

    def batch(self, inputs: list[str]) -> list[str]:
        """Give many as they are: they are no arrays."""
        return inputs

    def predict(self, texts: list[str]) -> list[list[Hit]]:
        """Give the nearest."""
        return self.search(texts)

    def unbatch(self, output: list[list[Hit]]) -> list[list[Hit]]:
        """Give one after another."""
        return output

    def encode_response(self, output: list[Hit]) -> list[Hit]:
        """Give what is answered."""
        return output


if __name__ == "__main__":
    api = Search(max_batch_size=MAX_BATCH, batch_timeout=0.001, api_path="/search")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=BATCHES, fast_queue=True)

    @server.app.get("/ping")
    async def ping() -> str:
        """Answer at once."""
        return "pong"

    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        access_log=False,
        log_level="warning",
    )
