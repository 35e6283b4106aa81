import numpy as np, pyarrow as pa, pyarrow.flight as flight

client = flight.connect("grpc://127.0.0.1:8815")
array = np.arange(12, dtype="float32").reshape(3, 4)
table = pa.table({"tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(array)})
writer, replies = client.do_put(flight.FlightDescriptor.for_path("weights"), table.schema)
with writer:
    writer.write_table(table)
    writer.done_writing()
    print(replies.read().to_pybytes().decode())
table = client.do_get(flight.Ticket(b'{"key": "weights"}')).read_all()
assert (table["tensor"].combine_chunks().to_numpy_ndarray() == array).all()
