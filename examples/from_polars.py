import json, os

import polars as pl, pyarrow.flight as flight

from with_retries import put_rows

client = flight.connect(os.environ.get("BOWSTRING_ENDPOINT", "grpc://127.0.0.1:8815"))
frame = pl.read_parquet("glove.parquet")
print(put_rows(client, frame.to_arrow(), namespace="glove", key_column="word", tensor_column="vector"))

ticket = {"namespace": "glove", "prefix": "king", "dtype": "float32", "shape": [50]}
found = pl.from_arrow(client.do_get(flight.Ticket(json.dumps(ticket))).read_all())
found = found.select("key", pl.col("tensor").ext.storage())
print(found.with_columns(norm=pl.col("tensor").arr.to_list().list.eval(pl.element() ** 2).list.sum().sqrt()))
