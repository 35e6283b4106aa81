package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Ticket;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.complex.FixedSizeListVector;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.junit.jupiter.api.Test;

class AlignmentTest extends Space {
  /** Netty's memory begins at a multiple of 16, and within a body the server begins every buffer at one of 64. */
  private void aligned(Object... members) throws Exception {
    try (FlightStream stream = client.getStream(new Ticket(Calls.text(in(members)).getBytes()))) {
      while (stream.next()) {
        FieldVector column = stream.getRoot().getVector("tensor");
        while (column instanceof FixedSizeListVector list) {
          column = list.getDataVector();
        }
        ArrowBuf data = column.getDataBuffer();
        if (data.capacity() > 0) {
          assertEquals(0, data.memoryAddress() % 16, () -> Calls.text(in(members)));
        }
      }
    }
  }

  @Test
  void ofOneAndOfMany() throws Exception {
    for (String dtype : List.of("uint8", "float32", "complex128")) {
      for (String shape : List.of("[1]", "[5]", "[100]", "[1000]", "[3, 5]", "[1, 70000]", "[700, 333]")) {
        String key = dtype + shape;
        put(to("key", key), Tensor.sample(dtype, Tensor.shapeOf(shape).toArray(Integer[]::new)));
        aligned("key", key, "max_message_bytes", 1 << 18);
        aligned("key", key, "layout", "flat", "max_message_bytes", 1 << 18);
      }
    }
    for (int count : new int[] {1, 2, 7, 100}) {
      List<String> keys = Rows.names("many" + count + "/", count);
      try (VectorSchemaRoot root = Rows.of(allocator, keys, Tensor.sample("float64", count, 3))) {
        put(to(), root, new DictionaryProvider.MapDictionaryProvider());
      }
      aligned("keys", keys);
    }
  }
}
