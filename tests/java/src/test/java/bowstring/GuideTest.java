package bowstring;

import static bowstring.Calls.codeOf;
import static bowstring.Calls.connect;
import static bowstring.Calls.get;
import static bowstring.Calls.put;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.BooleanSupplier;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.Float4Vector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.complex.FixedSizeListVector;
import org.apache.arrow.vector.dictionary.DictionaryProvider.MapDictionaryProvider;
import org.apache.arrow.vector.types.FloatingPointPrecision;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.FieldType;
import org.apache.arrow.vector.types.pojo.Schema;
import org.junit.jupiter.api.Test;

/** What docs/clients/java.md shows. */
class GuideTest {
  private final String address = Server.common().flight;

  GuideTest() throws Exception {}

  @Test
  void oneTensor() throws Exception {
    // snippet: open
    try (BufferAllocator allocator = new RootAllocator(); FlightClient client = connect(address, allocator)) {
      // snippet end
      // snippet: one
      ArrowType float32 = new ArrowType.FloatingPoint(FloatingPointPrecision.SINGLE);
      Schema schema = new Schema(List.of(Tensor.field("float32", float32, List.of(4))));
      FlightDescriptor where = FlightDescriptor.path("java", "weights");
      boolean[] sent = {false};
      JsonNode result;
      try (VectorSchemaRoot root = VectorSchemaRoot.create(schema, allocator)) {
        FixedSizeListVector rows = (FixedSizeListVector) root.getVector("tensor");
        Float4Vector elements = (Float4Vector) rows.getDataVector();
        rows.setInitialCapacity(3);
        rows.allocateNew();
        for (int row = 0; row < 3; row++) {
          rows.setNotNull(row);
        }
        for (int at = 0; at < 12; at++) {
          elements.set(at, at);
        }
        root.setRowCount(3);
        result = put(client, where, root, new MapDictionaryProvider(), () -> !sent[0] && (sent[0] = true)); // one batch
      }
      System.out.println(result); // {"stored":1,"existed":0,"bytes":48,"version":"…","errors":[],"errors_total":0}

      Map<String, String> described = new TreeMap<>();
      List<Object> cells = new ArrayList<>();
      get(
          client,
          "{\"namespace\": \"java\", \"key\": \"weights\"}",
          (batch, said) -> {
            described.putAll(batch.getSchema().getCustomMetadata()); // tensor.dtype=float32, tensor.shape=[3, 4], …
            for (int row = 0; row < batch.getRowCount(); row++) {
              cells.add(batch.getVector("tensor").getObject(row));
            }
          });
      System.out.println(cells); // [[0.0,1.0,2.0,3.0], [4.0,5.0,6.0,7.0], [8.0,9.0,10.0,11.0]]
      // snippet end
      assertEquals("[[0.0,1.0,2.0,3.0], [4.0,5.0,6.0,7.0], [8.0,9.0,10.0,11.0]]", cells.toString());
      assertEquals("float32 [3, 4]", described.get("tensor.dtype") + " " + described.get("tensor.shape"));
    }
  }

  @Test
  void manyTensors() throws Exception {
    try (BufferAllocator allocator = new RootAllocator(); FlightClient client = connect(address, allocator)) {
      // snippet: many
      ArrowType float32 = new ArrowType.FloatingPoint(FloatingPointPrecision.SINGLE);
      Field key = new Field("key", FieldType.notNullable(new ArrowType.Utf8()), null);
      Schema schema = new Schema(List.of(key, Tensor.field("float32", float32, List.of(4))));
      FlightDescriptor where = FlightDescriptor.command("{\"namespace\": \"pieces\"}".getBytes(UTF_8));
      int[] written = {0};
      JsonNode result;
      try (VectorSchemaRoot root = VectorSchemaRoot.create(schema, allocator)) {
        VarCharVector keys = (VarCharVector) root.getVector("key");
        FixedSizeListVector rows = (FixedSizeListVector) root.getVector("tensor");
        Float4Vector elements = (Float4Vector) rows.getDataVector();
        // Fills the same root again for each of three batches.
        BooleanSupplier next =
            () -> {
              if (written[0] == 3000) {
                return false;
              }
              root.allocateNew();
              for (int row = 0; row < 1000; row++, written[0]++) {
                keys.setSafe(row, ("piece " + written[0]).getBytes(UTF_8));
                rows.setNotNull(row);
                for (int at = 0; at < 4; at++) {
                  elements.setSafe(row * 4 + at, written[0]);
                }
              }
              root.setRowCount(1000);
              return true;
            };
        result = put(client, where, root, new MapDictionaryProvider(), next);
      }
      for (JsonNode bad : result.get("errors")) { // at most 100; errors_total counts all
        System.out.println(bad.get("row") + " " + bad.get("key") + " " + bad.get("message"));
      }

      List<String> found = new ArrayList<>();
      List<String> missing = new ArrayList<>();
      get(
          client,
          "{\"namespace\": \"pieces\", \"keys\": [\"piece 2007\", \"pawn\", \"piece 0\"]}",
          (batch, said) -> {
            for (int row = 0; row < batch.getRowCount(); row++) {
              found.add(batch.getVector("key").getObject(row) + " " + batch.getVector("tensor").getObject(row));
            }
            if (said != null) { // the closing batch, of no rows; a stream without one is not complete
              said.get("missing").forEach(name -> missing.add(name.asText()));
            }
          });
      System.out.println(found + " but not " + missing);
      // snippet end
      assertEquals(3000, result.get("stored").asInt());
      assertEquals(List.of("piece 2007 [2007.0,2007.0,2007.0,2007.0]", "piece 0 [0.0,0.0,0.0,0.0]"), found);
      assertEquals(List.of("pawn"), missing);
    }
  }

  @Test
  void aMiss() throws Exception {
    try (BufferAllocator allocator = new RootAllocator(); FlightClient client = connect(address, allocator)) {
      boolean missed = false;
      // snippet: refused
      try {
        get(client, "{\"namespace\": \"pieces\", \"key\": \"bishop\"}", (batch, said) -> {});
      } catch (FlightRuntimeException e) {
        missed = codeOf(e).equals("not_found");
        System.out.println(e.status().description()); // not_found: no such entry; namespace=`pieces` key=`bishop`
      }
      // snippet end
      assertTrue(missed);
    }
  }
}
