package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Ticket;
import org.apache.arrow.vector.BigIntVector;
import org.apache.arrow.vector.LargeVarBinaryVector;
import org.apache.arrow.vector.NullVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.complex.FixedSizeListVector;
import org.apache.arrow.vector.complex.ListVector;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.apache.arrow.vector.types.pojo.Field;
import org.junit.jupiter.api.Test;

class ManyTest extends Space {
  private final Tensor all = Tensor.sample("float32", 4, 2, 3);

  private void fill() throws Exception {
    bulk(List.of("a", "b", "c", "d"), all);
  }

  private void bulk(List<String> keys, Tensor tensors) throws Exception {
    try (VectorSchemaRoot root = Rows.of(allocator, keys, tensors)) {
      put(to(), root, new DictionaryProvider.MapDictionaryProvider());
    }
  }

  @Test
  void inTheOrderAskedAndTheMissingOnes() throws Exception {
    fill();
    Answer answer = get("keys", List.of("d", "no", "a", "d", "nor"));
    assertEquals(List.of("d", "a", "d"), answer.keys());
    assertSame(all.cell(3), answer.tensors("float32", 2, 3).cell(0));
    assertSame(all.cell(0), answer.tensors("float32", 2, 3).cell(1));
    assertEquals(List.of("no", "nor"), answer.missing());
    // The closing batch has no rows.
    assertEquals(0, answer.rows().get(answer.rows().size() - 1));
    Field tensor = answer.schema().findField("tensor");
    assertEquals("{\"shape\":[2,3]}", tensor.getMetadata().get("ARROW:extension:metadata"));
    assertFalse(tensor.isNullable());
  }

  @Test
  void nothingMissingIsSaidToo() throws Exception {
    fill();
    assertEquals(List.of(), get("keys", List.of("a")).missing());
  }

  @Test
  void nothingFound() throws Exception {
    Answer answer = get("keys", List.of("x", "y"));
    assertEquals(List.of("x", "y"), answer.missing());
    try (NullVector nothing = new NullVector("tensor")) {
      assertEquals(nothing.getField().getType(), answer.schema().findField("tensor").getType());
    }
    Field fixed = get("keys", List.of("x"), "dtype", "int8", "shape", List.of(3)).schema().findField("tensor");
    assertEquals("FixedSizeList(3)", fixed.getType().toString());
  }

  @Test
  void aRowForEachKey() throws Exception {
    fill();
    String ticket = Calls.text(in("keys", List.of("no", "b", "nor"), "missing", "null"));
    try (FlightStream stream = client.getStream(new Ticket(ticket.getBytes()))) {
      assertTrue(stream.next());
      FixedSizeListVector tensors = (FixedSizeListVector) stream.getRoot().getVector("tensor");
      assertTrue(tensors.isNull(0) && !tensors.isNull(1) && tensors.isNull(2));
      byte[] data = Tensor.values(tensors);
      assertSame(all.cell(1), new Tensor("float32", List.of(3, 2, 3), data).cell(1));
      assertFalse(stream.next());
    }
  }

  @Test
  void severalMessages() throws Exception {
    Tensor rows = Tensor.sample("int32", 100, 64);
    List<String> keys = Rows.names("k", 100);
    bulk(keys, rows);
    List<String> asked = new ArrayList<>(keys);
    asked.addAll(Rows.names("missing", 200));
    Answer answer = get("keys", asked, "max_message_bytes", 1024);
    assertTrue(answer.rows().size() >= 25 + 3, answer.rows().toString());
    assertSame(rows, answer.tensors("int32", 64));
    assertEquals(Rows.names("missing", 200), answer.missing());
  }

  @Test
  void columnsBesideTheTensor() throws Exception {
    Tensor one = Tensor.sample("int16", 5);
    JsonNode result = put(to("key", "a", "metadata", Map.of("model", "m1"), "ttl_ms", 1_000_000), one);
    String ticket = Calls.text(in("keys", List.of("a"), "with", List.of("version", "checksum", "metadata", "ttl_ms")));
    try (FlightStream stream = client.getStream(new Ticket(ticket.getBytes()))) {
      assertTrue(stream.next());
      VectorSchemaRoot row = stream.getRoot();
      assertEquals(result.get("version").asText(), row.getVector("version").getObject(0).toString());
      JsonNode described = act("describe", "keys", List.of("a")).at("/keys/0");
      assertEquals(described.get("checksum").asText(), row.getVector("checksum").getObject(0).toString());
      assertEquals("[{\"key\":\"model\",\"value\":\"m1\"}]", row.getVector("metadata").getObject(0).toString());
      long left = ((BigIntVector) row.getVector("ttl_ms")).get(0);
      assertTrue(left > 0 && left <= 1_000_000);
      // What was read so can be put as it is, into another namespace.
      JsonNode copied = put(Calls.command(Map.of("namespace", namespace + ".copy")), row, stream.getDictionaryProvider());
      assertEquals("1 0", copied.get("stored") + " " + copied.get("errors_total"));
    }
  }

  @Test
  void opaque() throws Exception {
    Map<String, Tensor> tensors =
        new TreeMap<>(
            Map.of(
                "a", Tensor.sample("int8", 3),
                "b", Tensor.sample("bfloat16", 2, 2),
                "c", Tensor.sample("complex128"),
                "d", Tensor.sample("float64", 0, 3)));
    for (Map.Entry<String, Tensor> each : tensors.entrySet()) {
      put(to("key", each.getKey()), each.getValue());
    }
    Map<String, Tensor> found = new TreeMap<>();
    Calls.get(
        client,
        Calls.text(in("prefix", "")),
        (batch, said) -> {
          for (int row = 0; row < batch.getRowCount(); row++) {
            found.put(batch.getVector("key").getObject(row).toString(), opaque(batch, row));
          }
        });
    assertEquals(tensors.keySet(), found.keySet());
    tensors.forEach((key, tensor) -> assertSame(tensor, found.get(key)));
  }

  /** One row of the `opaque` layout: any dtype, any shape. */
  static Tensor opaque(VectorSchemaRoot batch, int row) {
    List<Integer> shape = new ArrayList<>();
    for (Object axis : ((ListVector) batch.getVector("shape")).getObject(row)) {
      shape.add(Math.toIntExact((Long) axis));
    }
    byte[] data = ((LargeVarBinaryVector) batch.getVector("data")).get(row);
    return new Tensor(batch.getVector("dtype").getObject(row).toString(), shape, data);
  }

  @Test
  void prefix() throws Exception {
    bulk(List.of("user/1", "user/2", "item/1"), Tensor.sample("float32", 3, 2));
    put(to("key", "user/3"), Tensor.sample("int8", 7));
    assertEquals(List.of("user/1", "user/2", "user/3"), get("prefix", "user/", "with", List.of("version")).keys());
    Answer selected = get("prefix", "user/", "dtype", "float32", "shape", List.of(2));
    assertEquals(List.of("user/1", "user/2"), selected.keys());
    assertEquals(List.of(), selected.missing());
  }

  @Test
  void tensorsThatDiffer() throws Exception {
    fill();
    put(to("key", "e"), Tensor.sample("int8", 2, 3));
    refused("failed_precondition", () -> get("keys", List.of("a", "e")), "float32", "int8");
    assertEquals(List.of("e", "a"), get("keys", List.of("e", "a"), "layout", "opaque").keys());
  }

  @Test
  void tenThousandKeys() throws Exception {
    assertEquals(10_000, get("keys", Rows.names("k", 10_000)).missing().size());
  }
}
