package bowstring;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.util.Text;

/** Many tensors as the rows of a table. */
final class Rows {
  private Rows() {}

  /** Keys beside tensors, whose leading axis counts them, and more columns behind those. The root owns them all. */
  static VectorSchemaRoot of(BufferAllocator allocator, List<String> keys, Tensor tensors, FieldVector... more) {
    List<FieldVector> columns = new ArrayList<>(List.of(keys(allocator, "key", keys)));
    columns.addAll(tensors.root(allocator).getFieldVectors());
    columns.addAll(List.of(more));
    return new VectorSchemaRoot(columns);
  }

  static VarCharVector keys(BufferAllocator allocator, String name, List<String> keys) {
    VarCharVector column = new VarCharVector(name, allocator);
    column.allocateNew();
    for (int row = 0; row < keys.size(); row++) {
      column.setSafe(row, new Text(keys.get(row)));
    }
    column.setValueCount(keys.size());
    return column;
  }

  /** `prefix0`, `prefix1`, ... */
  static List<String> names(String prefix, int count) {
    return IntStream.range(0, count).mapToObj(at -> prefix + at).toList();
  }
}
