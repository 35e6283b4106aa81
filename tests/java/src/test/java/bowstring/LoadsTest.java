package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.List;
import java.util.Map;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class LoadsTest extends Space {
  private static final DictionaryProvider NONE = new DictionaryProvider.MapDictionaryProvider();
  private final Tensor all = Tensor.sample("float32", 4, 2, 3);
  private final Tensor others = Tensor.sample("float32", 3, 2, 3);

  @BeforeEach
  void fill() throws Exception {
    act("clear", "confirm", true);
    try (VectorSchemaRoot root = Rows.of(allocator, List.of("a", "b", "c", "d"), all)) {
      put(to(), root, NONE);
    }
  }

  // snippet: load
  /** Puts rows that become visible all at once, or not at all; where a row is bad, none is. */
  static String load(FlightClient client, String namespace, boolean replaceAll, VectorSchemaRoot rows) throws Exception {
    Map<String, Object> begin = Map.of("namespace", namespace, "replace_all", replaceAll);
    String id = Calls.act(client, "begin_load", begin).get("load_id").asText();
    Map<String, String> load = Map.of("load_id", id);
    try {
      boolean[] sent = {false};
      JsonNode result =
          Calls.put(
              client,
              Calls.command(Map.of("namespace", namespace, "load_id", id)),
              rows,
              new DictionaryProvider.MapDictionaryProvider(),
              () -> !sent[0] && (sent[0] = true));
      if (result.get("errors_total").asLong() > 0) {
        throw new IllegalArgumentException(result.get("errors").toString());
      }
    } catch (Exception e) {
      Calls.act(client, "abort_load", load);
      throw e;
    }
    // All of them can be sent again where no answer came. rollback_load takes it back, until something else is committed.
    Calls.act(client, "commit_load", load);
    return id;
  }

  // snippet end

  private List<String> keys() throws Exception {
    return get("prefix", "", "dtype", "float32", "shape", List.of(2, 3)).keys();
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void aLoadShowsAtOnce(boolean replaceAll) throws Exception {
    String load = act("begin_load", "replace_all", replaceAll).get("load_id").asText();
    try (VectorSchemaRoot root = Rows.of(allocator, List.of("b", "e"), others.rows(0, 2))) {
      assertEquals(2, put(to("load_id", load), root, NONE).get("stored").asInt());
    }
    put(to("load_id", load, "key", "f"), others.cell(2));
    assertEquals(List.of("a", "b", "c", "d"), keys());
    assertSame(all.cell(1), get("key", "b").tensor());
    JsonNode committed = Calls.act(client, "commit_load", Map.of("load_id", load));
    assertEquals("3 72", committed.get("entries") + " " + committed.get("bytes"));
    assertEquals(replaceAll ? List.of("b", "e", "f") : List.of("a", "b", "c", "d", "e", "f"), keys());
    assertSame(others.cell(0), get("key", "b").tensor());
  }

  @Test
  void rollback() throws Exception {
    String id;
    try (VectorSchemaRoot root = Rows.of(allocator, List.of("a", "x"), others.rows(0, 2))) {
      id = load(client, namespace, true, root);
    }
    assertEquals(List.of("a", "x"), keys());
    act("rollback_load", "load_id", id);
    assertEquals(List.of("a", "b", "c", "d"), keys());
    assertSame(all.cell(0), get("key", "a").tensor());
    refused("failed_precondition", () -> act("commit_load", "load_id", id), "rolled back");
  }

  @Test
  void abort() throws Exception {
    String id = act("begin_load").get("load_id").asText();
    put(to("key", "y", "load_id", id), all.cell(0));
    act("abort_load", "load_id", id);
    refused("failed_precondition", () -> put(to("key", "z", "load_id", id), all.cell(0)), "aborted");
    assertEquals(List.of("a", "b", "c", "d"), keys());
  }

  @Test
  void aBadRowAbortsTheLoad() throws Exception {
    try (VectorSchemaRoot root = Rows.of(allocator, List.of("x", ""), others.rows(0, 2))) {
      Exception bad = assertThrows(IllegalArgumentException.class, () -> load(client, namespace, false, root));
      assertTrue(bad.getMessage().contains("\"row\":1"), bad.getMessage());
    }
    assertEquals(List.of("a", "b", "c", "d"), keys());
  }

  @Test
  void idsThatAreNone() {
    for (String action : List.of("commit_load", "abort_load", "rollback_load")) {
      refused("not_found", () -> act(action, "load_id", "99-12345678"), "99-12345678");
    }
  }
}
