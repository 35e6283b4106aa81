import json, os

import duckdb, pyarrow.flight as flight

from with_retries import put_rows

client = flight.connect(os.environ.get("BOWSTRING_ENDPOINT", "grpc://127.0.0.1:8815"))
rows = duckdb.sql("SELECT word AS key, vector::FLOAT[50] AS tensor FROM 'glove.parquet'")
print(put_rows(client, rows.to_arrow_table(), namespace="glove"))

ticket = {"namespace": "glove", "prefix": "king", "dtype": "float32", "shape": [50]}
kings = client.do_get(flight.Ticket(json.dumps(ticket))).read_all()
print(duckdb.sql("""
    SELECT key, array_cosine_similarity(tensor, (SELECT tensor FROM kings WHERE key = 'king')) AS likeness
    FROM kings ORDER BY likeness DESC LIMIT 5
"""))
