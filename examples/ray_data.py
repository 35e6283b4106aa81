import json, os

import pyarrow as pa, pyarrow.flight as flight, ray
from ray.data.block import BlockAccessor

import with_retries

ray.cloudpickle.register_pickle_by_value(with_retries)  # so that the workers need no copy of the file


class Bowstring(ray.data.Datasink):
    """A load: many tasks put rows, which all become visible at once when the last task has ended; none where the job fails."""

    def __init__(self, endpoint, **command):
        self.endpoint, self.command = endpoint, command

    def act(self, action, **body):
        return with_retries.act(flight.connect(self.endpoint), action, namespace=self.command["namespace"], **body)

    def on_write_start(self, schema=None):
        self.command["load_id"] = self.act("begin_load", replace_all=True)["load_id"]

    def write(self, blocks, ctx):
        client = flight.connect(self.endpoint)
        return [with_retries.put_rows(client, BlockAccessor.for_block(block).to_arrow(), **self.command) for block in blocks]

    def on_write_complete(self, result):
        print(self.act("commit_load", load_id=self.command["load_id"]))

    def on_write_failed(self, error):
        if "load_id" in self.command:  # else it failed before the first row
            self.act("abort_load", load_id=self.command["load_id"])


endpoint = os.environ.get("BOWSTRING_ENDPOINT", "grpc://127.0.0.1:8815")
dataset = ray.data.read_parquet("glove.parquet")
dataset.write_datasink(Bowstring(endpoint, namespace="glove", key_column="word", tensor_column="vector"))

ask = {"namespace": "glove", "prefix": "", "dtype": "float32", "shape": [50], "partitions": 8}
info = flight.connect(endpoint).get_flight_info(flight.FlightDescriptor.for_command(json.dumps(ask)))
tickets = ray.data.from_items([{"ticket": part.ticket.ticket} for part in info.endpoints])
read = lambda row: flight.connect(endpoint).do_get(flight.Ticket(row["ticket"][0].as_py())).read_all()
print(tickets.map_batches(read, batch_size=1, batch_format="pyarrow").count())
