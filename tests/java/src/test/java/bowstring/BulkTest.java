package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.vector.BigIntVector;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.FixedSizeBinaryVector;
import org.apache.arrow.vector.IntVector;
import org.apache.arrow.vector.LargeVarCharVector;
import org.apache.arrow.vector.UInt4Vector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.ViewVarCharVector;
import org.apache.arrow.vector.complex.ListVector;
import org.apache.arrow.vector.complex.MapVector;
import org.apache.arrow.vector.complex.impl.UnionListWriter;
import org.apache.arrow.vector.complex.impl.UnionMapWriter;
import org.apache.arrow.vector.dictionary.Dictionary;
import org.apache.arrow.vector.dictionary.DictionaryEncoder;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.apache.arrow.vector.types.pojo.DictionaryEncoding;
import org.apache.arrow.vector.util.Text;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class BulkTest extends Space {
  private static final DictionaryProvider NONE = new DictionaryProvider.MapDictionaryProvider();

  private JsonNode bulk(FlightDescriptor where, List<String> keys, Tensor tensors, FieldVector... more) throws Exception {
    try (VectorSchemaRoot root = Rows.of(allocator, keys, tensors, more)) {
      return put(where, root, NONE);
    }
  }

  @Test
  void twentyThousandRows() throws Exception {
    Tensor all = Tensor.sample("float32", 20_000, 50);
    List<String> keys = Rows.names("word ", 20_000);
    JsonNode result = bulk(to(), keys, all);
    assertEquals(20_000, result.get("stored").asInt());
    assertEquals(4_000_000, result.get("bytes").asInt());
    assertEquals(20_000, bulk(to(), keys, all).get("existed").asInt());
    assertSame(all.cell(17_000), get("key", "word 17000").tensor());
    Answer everything = get("prefix", "", "dtype", "float32", "shape", List.of(50));
    assertEquals(keys.stream().sorted().toList(), everything.keys());
  }

  static Stream<String> dtypes() {
    return Tensor.STORAGE.keySet().stream();
  }

  @ParameterizedTest
  @MethodSource("dtypes")
  void everyDtype(String dtype) throws Exception {
    Tensor all = Tensor.sample(dtype, 5, 2, 3);
    List<String> keys = Rows.names(dtype, 5);
    assertEquals(5, bulk(to(), keys, all).get("stored").asInt());
    assertSame(all, get("keys", keys).tensors(dtype, 2, 3));
    assertSame(all.cell(4), get("key", keys.get(4)).tensor());
    covered("everyDtype", dtype);
  }

  @Test
  void scalars() throws Exception {
    Tensor all = Tensor.sample("int64", 3);
    bulk(to(), List.of("a", "b", "c"), all);
    assertSame(all.cell(1), get("key", "b").tensor());
    assertSame(all.rows(1, 3), get("keys", List.of("b", "c")).tensors("int64"));
  }

  private void keysOf(FieldVector column, String... names) throws Exception {
    Tensor all = Tensor.sample("int16", 2, 3);
    List<FieldVector> columns = new ArrayList<>(List.of(column));
    columns.addAll(all.root(allocator).getFieldVectors());
    try (VectorSchemaRoot root = new VectorSchemaRoot(columns)) {
      assertEquals(2, put(to("key_column", column.getName()), root, NONE).get("stored").asInt());
    }
    assertEquals(List.of(names), get("keys", List.of(names)).keys());
  }

  @Test
  void keysOfManyTypes() throws Exception {
    LargeVarCharVector large = new LargeVarCharVector("large", allocator);
    large.setSafe(0, new Text("ä"));
    large.setSafe(1, new Text("b"));
    large.setValueCount(2);
    keysOf(large, "ä", "b");
    BigIntVector integers = new BigIntVector("integers", allocator);
    integers.setSafe(0, -7);
    integers.setSafe(1, 1L << 60);
    integers.setValueCount(2);
    keysOf(integers, "-7", "1152921504606846976");
    UInt4Vector unsigned = new UInt4Vector("unsigned", allocator);
    unsigned.setSafe(0, 0);
    unsigned.setSafe(1, -1);
    unsigned.setValueCount(2);
    keysOf(unsigned, "0", "4294967295");
    FixedSizeBinaryVector binary = new FixedSizeBinaryVector("binary", allocator, 2);
    binary.setSafe(0, new byte[] {0, -1});
    binary.setSafe(1, new byte[] {16, 1});
    binary.setValueCount(2);
    keysOf(binary, "00ff", "1001");
    ViewVarCharVector views = new ViewVarCharVector("views", allocator);
    views.setSafe(0, new Text("a view"));
    views.setSafe(1, new Text("a view that is longer than twelve bytes"));
    views.setValueCount(2);
    keysOf(views, "a view", "a view that is longer than twelve bytes");
  }

  @Test
  void keysFromADictionary() throws Exception {
    Tensor all = Tensor.sample("int16", 3, 2);
    try (VarCharVector words = Rows.keys(allocator, "words", List.of("king", "queen"));
        VarCharVector plain = Rows.keys(allocator, "key", List.of("queen", "king", "queen"))) {
      Dictionary dictionary = new Dictionary(words, new DictionaryEncoding(1, false, null));
      List<FieldVector> columns = new ArrayList<>(List.of((FieldVector) DictionaryEncoder.encode(plain, dictionary)));
      columns.addAll(all.root(allocator).getFieldVectors());
      try (VectorSchemaRoot root = new VectorSchemaRoot(columns)) {
        JsonNode result = put(to("mode", "replace"), root, new DictionaryProvider.MapDictionaryProvider(dictionary));
        assertEquals(3, result.get("stored").asInt());
      }
    }
    assertSame(all.rows(1, 3), get("keys", List.of("king", "queen")).tensors("int16", 2));
  }

  /** A bad row is counted and described, and does not lose the others. */
  @Test
  void badRows() throws Exception {
    put(to("key", "taken"), Tensor.sample("int32", 3));
    ListVector lists = ListVector.empty("tensor", allocator);
    UnionListWriter writer = lists.getWriter();
    int[] lengths = {3, 2, 3, 3, 3};
    for (int row = 0; row < lengths.length; row++) {
      writer.setPosition(row);
      writer.startList();
      for (int at = 0; at < lengths[row]; at++) {
        writer.writeInt(at);
      }
      writer.endList();
    }
    writer.setValueCount(lengths.length);
    List<FieldVector> columns = List.of(Rows.keys(allocator, "key", List.of("a", "short", "", "taken", "e")), lists);
    try (VectorSchemaRoot root = new VectorSchemaRoot(columns)) {
      JsonNode result = put(to("mode", "create"), root, NONE);
      assertEquals("2 3", result.get("stored") + " " + result.get("errors_total"));
      List<String> errors = new ArrayList<>();
      for (JsonNode each : result.get("errors")) {
        errors.add(each.get("row") + " " + each.get("key").asText() + " " + each.get("code").asText());
        assertTrue(each.get("message").asText().length() > 10);
      }
      assertEquals(List.of("1 short invalid_argument", "2 null invalid_argument", "3 taken already_exists"), errors);
    }
    assertEquals(List.of("a", "e"), get("keys", List.of("a", "e", "short")).keys());
  }

  @Test
  void expiryAndMetadata() throws Exception {
    BigIntVector expiry = new BigIntVector("ttl_ms", allocator);
    expiry.setNull(0);
    expiry.setSafe(1, 1_000_000);
    expiry.setValueCount(2);
    MapVector metadata = MapVector.empty("metadata", allocator, false);
    UnionMapWriter writer = metadata.getWriter();
    for (int row = 0; row < 2; row++) {
      writer.setPosition(row);
      writer.startMap();
      if (row == 0) {
        writer.startEntry();
        writer.key().varChar().writeVarChar("model");
        writer.value().varChar().writeVarChar("m1");
        writer.endEntry();
      }
      writer.endMap();
    }
    metadata.setValueCount(2);
    bulk(to(), List.of("a", "b"), Tensor.sample("float32", 2, 4), expiry, metadata);
    JsonNode described = act("describe", "keys", List.of("a", "b")).get("keys");
    assertEquals("{\"model\":\"m1\"}", described.get(0).get("metadata").toString());
    assertNull(described.get(0).get("ttl_ms"));
    long left = described.get(1).get("ttl_ms").asLong();
    assertTrue(left > 0 && left <= 1_000_000);
  }

  @Test
  void refusals() throws Exception {
    Tensor all = Tensor.sample("float32", 2, 4);
    List<String> keys = List.of("a", "b");
    refused("invalid_argument", () -> bulk(to(), keys, all, colours()), "colour");
    refused("invalid_argument", () -> bulk(to("key_column", "word"), keys, all), "word");
    refused("invalid_argument", () -> bulk(to("mode", "overwrite"), keys, all), "overwrite");
    assertEquals(2, bulk(to("extra_columns", "ignore"), keys, all, colours()).get("stored").asInt());
  }

  private IntVector colours() {
    IntVector colours = new IntVector("colour", allocator);
    colours.setSafe(1, 5);
    colours.setValueCount(2);
    return colours;
  }
}
