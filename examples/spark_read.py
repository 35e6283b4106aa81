import json, os

import pyarrow as pa, pyarrow.flight as flight
from pyspark.sql import SparkSession
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.pandas.types import to_arrow_schema


class Bowstring(DataSource):
    name = classmethod(lambda cls: "bowstring")

    def reader(self, schema):
        return Reader(dict(self.options), to_arrow_schema(schema))


class Reader(DataSourceReader):
    """One snapshot of a namespace, a part of it for each partition: parts are read at once, and none twice."""

    def __init__(self, options, schema):
        self.endpoint, self.schema = options.pop("endpoint"), schema
        self.ask = {"prefix": "", "partitions": 8, **options, "shape": json.loads(options["shape"])}

    def partitions(self):
        descriptor = flight.FlightDescriptor.for_command(json.dumps(self.ask))
        info = flight.connect(self.endpoint).get_flight_info(descriptor)
        return [InputPartition(part.ticket.ticket) for part in info.endpoints]

    def read(self, partition):
        for chunk in flight.connect(self.endpoint).do_get(flight.Ticket(partition.value)):
            lists = chunk.data["tensor"].storage.cast(self.schema.field("tensor").type)
            yield pa.RecordBatch.from_arrays([chunk.data["key"], lists], schema=self.schema)


if __name__ == "__main__":
    spark = SparkSession.builder.getOrCreate()
    spark.dataSource.register(Bowstring)
    endpoint = os.environ.get("BOWSTRING_ENDPOINT", "grpc://127.0.0.1:8815")
    source = spark.read.format("bowstring").schema("key string, tensor array<float>")
    frame = source.options(endpoint=endpoint, namespace="glove", dtype="float32", shape="[50]").load()
    print(frame.selectExpr("count(*)", "avg(tensor[0])").first())
