package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.List;
import java.util.Map;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.SyncPutListener;
import org.apache.arrow.flight.Ticket;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.TinyIntVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.complex.BaseRepeatedValueVector;
import org.apache.arrow.vector.complex.FixedSizeListVector;
import org.apache.arrow.vector.complex.ListVector;
import org.apache.arrow.vector.complex.impl.UnionListWriter;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.FieldType;
import org.apache.arrow.vector.types.pojo.Schema;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class PutGetTest extends Space {
  @ParameterizedTest
  @ValueSource(strings = {"[]", "[1]", "[768]", "[3, 4]", "[5, 1, 2, 3]", "[0]", "[0, 3]", "[3, 0]", "[2, 0, 4]"})
  void oneTensor(String shape) throws Exception {
    Tensor one = Tensor.sample("float32", Tensor.shapeOf(shape).toArray(Integer[]::new));
    JsonNode result = put(to("key", shape), one);
    assertEquals(1, result.get("stored").asInt());
    assertEquals(one.data().length, result.get("bytes").asInt());
    Answer answer = get("key", shape);
    assertSame(one, answer.tensor());
    Map<String, String> metadata = answer.schema().getCustomMetadata();
    assertEquals(namespace, metadata.get("tensor.namespace"));
    assertEquals(shape, metadata.get("tensor.key"));
    assertEquals(result.get("version").asText(), metadata.get("tensor.version"));
    assertEquals(act("describe", "keys", List.of(shape)).at("/keys/0/checksum").asText(), metadata.get("tensor.checksum"));
  }

  @Test
  void byPath() throws Exception {
    Tensor one = Tensor.sample("int16", 2, 3);
    put(Calls.path(namespace, "a"), one);
    assertSame(one, get("key", "a").tensor());
  }

  /** A stream may come in several batches, one of them empty, or in none at all. */
  @Test
  void severalBatches() throws Exception {
    Tensor one = Tensor.sample("float64", 10, 3);
    put(to("key", "a"), one.rows(0, 4), one.rows(4, 4), one.rows(4, 10));
    assertSame(one, get("key", "a").tensor());
    try (VectorSchemaRoot root = VectorSchemaRoot.create(one.schema(), allocator)) {
      Calls.put(client, to("key", "none"), root, new DictionaryProvider.MapDictionaryProvider(), () -> false);
    }
    assertSame(Tensor.sample("float64", 0, 3), get("key", "none").tensor());
  }

  /** Lists of one length are tensors without an extension type, whatever the column and its child are named. */
  @Test
  void plainLists() throws Exception {
    try (ListVector lists = ListVector.empty("any name", allocator)) {
      UnionListWriter writer = lists.getWriter();
      for (int row = 0; row < 4; row++) {
        writer.setPosition(row);
        writer.startList();
        for (int at = 0; at < 3; at++) {
          writer.writeInt(row * 3 + at);
        }
        writer.endList();
      }
      writer.setValueCount(4);
      try (VectorSchemaRoot root = VectorSchemaRoot.of(lists)) {
        put(to("key", "list"), root, new DictionaryProvider.MapDictionaryProvider());
      }
    }
    Tensor list = get("key", "list").tensor();
    assertEquals("int32[4, 3]", list.toString());
    assertEquals(11, list.data()[44]);
    // Two lists of a list of 3, all nullable, as a schema that was not made for tensors has it.
    Field item = Field.nullable(BaseRepeatedValueVector.DATA_VECTOR_NAME, new ArrowType.Int(8, true));
    Field inner = new Field("inner", FieldType.nullable(new ArrowType.FixedSizeList(3)), List.of(item));
    Field outer = new Field("outer", FieldType.nullable(new ArrowType.FixedSizeList(2)), List.of(inner));
    try (VectorSchemaRoot root = VectorSchemaRoot.create(new Schema(List.of(outer)), allocator)) {
      FixedSizeListVector column = (FixedSizeListVector) root.getVector(0);
      fill(column, 4);
      root.setRowCount(4);
      put(to("key", "nested"), root, new DictionaryProvider.MapDictionaryProvider());
    }
    Tensor nested = get("key", "nested").tensor();
    assertEquals("int8[4, 2, 3]", nested.toString());
    assertEquals(23, nested.data()[23]);
  }

  /** 0, 1, 2 and so on, in lists without nulls. */
  private static void fill(FieldVector column, int count) {
    column.setInitialCapacity(count);
    column.allocateNew();
    for (int at = 0; at < count; at++) {
      if (column instanceof FixedSizeListVector list) {
        list.setNotNull(at);
      } else {
        ((TinyIntVector) column).set(at, at);
      }
    }
    if (column instanceof FixedSizeListVector list) {
      fill(list.getDataVector(), count * list.getListSize());
    }
    column.setValueCount(count);
  }

  @Test
  void whatAGetReturnedCanBePut() throws Exception {
    Tensor one = Tensor.sample("complex64", 4, 3);
    put(to("key", "a", "metadata", Map.of("model", "m1")), one);
    try (FlightStream stream = client.getStream(new Ticket(Calls.text(in("key", "a")).getBytes()))) {
      assertTrue(stream.next());
      put(to("key", "b"), stream.getRoot(), stream.getDictionaryProvider());
    }
    Answer copy = get("key", "b");
    assertSame(one, copy.tensor());
    assertEquals("m1", copy.schema().getCustomMetadata().get("user.model"));
  }

  @Test
  void rows() throws Exception {
    Tensor one = Tensor.sample("float32", 10, 3);
    put(to("key", "a"), one);
    for (List<Integer> rows : List.of(List.of(0, 10), List.of(2, 5), List.of(9, 10), List.of(4, 4))) {
      Answer part = get("key", "a", "rows", rows);
      assertSame(one.rows(rows.get(0), rows.get(1)), part.tensor());
      assertNull(part.schema().getCustomMetadata().get("tensor.checksum"));
    }
    for (List<Integer> rows : List.of(List.of(5, 4), List.of(0, 11))) {
      refused("invalid_argument", () -> get("key", "a", "rows", rows), "rows");
    }
  }

  @Test
  void versions() throws Exception {
    String first = put(to("key", "a"), Tensor.sample("int8", 3)).get("version").asText();
    refused("not_modified", () -> get("key", "a", "unless_version", first));
    Tensor other = Tensor.sample("int8", 4);
    String second = put(to("key", "a", "mode", "replace", "if_version", first), other).get("version").asText();
    assertSame(other, get("key", "a", "unless_version", first).tensor());
    refused("failed_precondition", () -> get("key", "a", "version", first), second);
    refused("failed_precondition", () -> put(to("key", "a", "mode", "replace", "if_version", first), other), "version");
  }

  @Test
  void modes() throws Exception {
    Tensor one = Tensor.sample("float32", 3);
    Tensor other = Tensor.sample("int8", 3);
    String first = put(to("key", "a"), one).get("version").asText();
    JsonNode again = put(to("key", "a"), one);
    assertEquals("0 1 " + first, again.get("stored") + " " + again.get("existed") + " " + again.get("version").asText());
    refused("already_exists", () -> put(to("key", "a"), other), "a");
    assertEquals(1, put(to("key", "a", "mode", "keep"), other).get("existed").asInt());
    assertSame(one, get("key", "a").tensor());
    assertNotEquals(first, put(to("key", "a", "mode", "replace"), other).get("version").asText());
    assertSame(other, get("key", "a").tensor());
  }

  @Test
  void checksumsAndSizes() throws Exception {
    Tensor one = Tensor.sample("uint16", 7, 5);
    put(to("key", "a"), one);
    String checksum = get("key", "a").schema().getCustomMetadata().get("tensor.checksum");
    put(to("key", "b", "checksum", checksum, "size_bytes", 70), one);
    refused("data_loss", () -> put(to("key", "c", "checksum", "0".repeat(32)), one), checksum);
    refused("invalid_argument", () -> put(to("key", "c", "size_bytes", 1), one), "size_bytes");
    refused("not_found", () -> get("key", "c"));
  }

  /** What the first message shows is refused before the rest is sent. */
  @Test
  void earlyRefusal() throws Exception {
    Tensor one = Tensor.sample("float32", 256, 1024);
    put(to("key", "a"), one);
    Map<String, FlightDescriptor> wrong =
        Map.of(
            "failed_precondition", to("key", "a", "if_version", "1"),
            "invalid_argument", to("key", "b", "namespace", "not legal"),
            "resource_exhausted", to("key", "b", "size_bytes", 1L << 40),
            "not_found", to("key", "b", "load_id", "1-1"));
    try (VectorSchemaRoot root = one.root(allocator)) {
      for (Map.Entry<String, FlightDescriptor> each : wrong.entrySet()) {
        int[] sent = {0};
        DictionaryProvider none = new DictionaryProvider.MapDictionaryProvider();
        refused(each.getKey(), () -> Calls.put(client, each.getValue(), root, none, () -> sent[0]++ < 1024));
        assertTrue(sent[0] < 1024, each.getKey() + " came after " + sent[0] + " MiB");
      }
    }
  }

  /** error() cancels the call; completed() would have made a tensor of what was sent. */
  @Test
  void aPutThatIsGivenUpStoresNothing() throws Exception {
    Tensor one = Tensor.sample("int32", 10, 3);
    try (VectorSchemaRoot root = one.root(allocator);
        SyncPutListener replies = new SyncPutListener()) {
      FlightClient.ClientStreamListener writer = client.startPut(to("key", "a"), root, replies);
      writer.putNext();
      writer.error(new IllegalStateException("the rest cannot be read"));
      assertEquals("", Calls.codeOf(assertThrows(FlightRuntimeException.class, writer::getResult)));
    }
    refused("not_found", () -> get("key", "a"));
  }

  @Test
  void timeToLive() throws Exception {
    put(to("key", "a", "ttl_ms", 1), Tensor.sample("int8", 3));
    put(to("key", "b", "ttl_ms", 1_000_000), Tensor.sample("int8", 3));
    while (act("exists", "keys", List.of("a")).get("leading").asInt() > 0) {
      Thread.onSpinWait();
    }
    refused("not_found", () -> get("key", "a"));
    long left = act("describe", "keys", List.of("b")).at("/keys/0/ttl_ms").asLong();
    assertTrue(left > 0 && left <= 1_000_000);
  }

  @ParameterizedTest
  @ValueSource(strings = {"ä/ö\\\"", "\u2028", "🎯", "<a&b>"})
  void keysOfAnyCharacters(String key) throws Exception {
    Tensor one = Tensor.sample("int8", key.length());
    put(to("key", key), one);
    Answer answer = get("key", key);
    assertSame(one, answer.tensor());
    assertEquals(key, answer.schema().getCustomMetadata().get("tensor.key"));
    assertFalse(get("prefix", key, "dtype", "int8", "shape", List.of(key.length())).keys().isEmpty());
  }
}
