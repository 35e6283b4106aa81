import json, os

import pandas as pd, pyarrow as pa, pyarrow.flight as flight

from with_retries import put_rows

client = flight.connect(os.environ.get("BOWSTRING_ENDPOINT", "grpc://127.0.0.1:8815"))
frame = pd.read_parquet("glove.parquet")  # a NumPy array in each row of `vector`
table = pa.Table.from_pandas(frame, preserve_index=False)
print(put_rows(client, table, namespace="glove", key_column="word", tensor_column="vector"))

ticket = {"namespace": "glove", "keys": ["king", "queen", "no such word"], "missing": "null"}
found = client.do_get(flight.Ticket(json.dumps(ticket))).read_all().to_pandas().set_index("key")
print(found)
