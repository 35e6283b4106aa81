import os

import pyarrow as pa, pyarrow.flight as flight
from pyspark import cloudpickle
from pyspark.sql import SparkSession
from pyspark.sql.datasource import DataSource, DataSourceArrowWriter, WriterCommitMessage

import with_retries

cloudpickle.register_pickle_by_value(with_retries)  # so that the executors need no copy of the file


class Bowstring(DataSource):
    name = classmethod(lambda cls: "bowstring")

    def writer(self, schema, overwrite):
        return Writer(dict(self.options), overwrite)


class Writer(DataSourceArrowWriter):
    """A load: its rows become visible when Spark commits the job. A task that runs twice puts the same rows again."""

    def __init__(self, options, overwrite):
        self.endpoint, self.command = options.pop("endpoint"), options
        self.command["load_id"] = self.act("begin_load", replace_all=overwrite)["load_id"]

    def act(self, action, **body):
        return with_retries.act(flight.connect(self.endpoint), action, namespace=self.command["namespace"], **body)

    def write(self, batches):
        client = flight.connect(self.endpoint)
        for batch in batches:
            with_retries.put_rows(client, pa.Table.from_batches([batch]), **self.command)
        return WriterCommitMessage()

    def commit(self, messages):
        self.act("commit_load", load_id=self.command["load_id"])

    def abort(self, messages):
        self.act("abort_load", load_id=self.command["load_id"])


if __name__ == "__main__":
    spark = SparkSession.builder.getOrCreate()
    spark.dataSource.register(Bowstring)
    frame = spark.read.parquet("glove.parquet").withColumnsRenamed({"word": "key", "vector": "tensor"})
    frame.write.format("bowstring").mode("overwrite").option("namespace", "glove").option(
        "endpoint", os.environ.get("BOWSTRING_ENDPOINT", "grpc://127.0.0.1:8815")
    ).save()
