package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class ExchangeTest extends Space {
  private final Tensor all = Tensor.sample("float32", 4, 2, 3);

  @BeforeEach
  void fill() throws Exception {
    try (VectorSchemaRoot root = Rows.of(allocator, List.of("a", "b", "c", "d"), all)) {
      put(to(), root, new DictionaryProvider.MapDictionaryProvider());
    }
  }

  // snippet: exchange
  /** One call that stays open: each batch of keys is answered by one batch of what was found. */
  static final class Lookup implements AutoCloseable {
    private final FlightClient.ExchangeReaderWriter call;
    private final VarCharVector keys;
    private final VectorSchemaRoot root;

    /** The command is `{"exchange": "get", "namespace": …}`; the allocator is for the keys. */
    Lookup(FlightClient client, BufferAllocator allocator, Map<String, ?> command) {
      keys = new VarCharVector("key", allocator);
      root = VectorSchemaRoot.of(keys);
      call = client.doExchange(Calls.command(command));
      call.getWriter().start(root);
    }

    void ask(List<String> asked) {
      keys.allocateNew();
      for (int row = 0; row < asked.size(); row++) {
        keys.setSafe(row, asked.get(row).getBytes(StandardCharsets.UTF_8));
      }
      root.setRowCount(asked.size());
      call.getWriter().putNext();
    }

    /** The next answer: its root, and in getLatestMetadata() what is missing. Null where there are no more. */
    FlightStream answer() {
      return call.getReader().next() ? call.getReader() : null;
    }

    void done() {
      call.getWriter().completed();
    }

    @Override
    public void close() throws Exception {
      call.close();
      root.close();
    }
  }

  // snippet end

  private Lookup lookup(Object... members) {
    List<Object> all = new ArrayList<>(List.of("exchange", "get"));
    all.addAll(List.of(members));
    return new Lookup(client, allocator, in(all.toArray()));
  }

  @Test
  void oneForOne() throws Exception {
    List<List<String>> asked = List.of(List.of("c", "no", "a"), List.of("nor"), List.of(), List.of("d", "d"));
    List<List<String>> found = List.of(List.of("c", "a"), List.of(), List.of(), List.of("d", "d"));
    List<List<String>> missing = List.of(List.of("no"), List.of("nor"), List.of(), List.of());
    try (Lookup lookup = lookup("dtype", "float32", "shape", List.of(2, 3))) {
      for (int at = 0; at < asked.size(); at++) {
        lookup.ask(asked.get(at));
        FlightStream answer = lookup.answer();
        assertEquals(
            Calls.JSON.valueToTree(missing.get(at)), Calls.json(answer.getLatestMetadata()).get("missing"));
        List<String> keys = new ArrayList<>();
        VectorSchemaRoot root = answer.getRoot();
        Tensor tensors = new Tensor("float32", List.of(root.getRowCount(), 2, 3), Tensor.values(root.getVector("tensor")));
        for (int row = 0; row < root.getRowCount(); row++) {
          keys.add(root.getVector("key").getObject(row).toString());
          assertSame(all.cell(keys.get(row).charAt(0) - 'a'), tensors.cell(row));
        }
        assertEquals(found.get(at), keys);
      }
      lookup.done();
      assertNull(lookup.answer());
    }
  }

  @Test
  void manyAhead() throws Exception {
    try (Lookup lookup = lookup()) {
      for (int at = 0; at < 200; at++) {
        lookup.ask(List.of("abcd".substring(at % 4, at % 4 + 1)));
      }
      lookup.done();
      for (int at = 0; at < 200; at++) {
        FlightStream answer = lookup.answer();
        assertEquals("abcd".substring(at % 4, at % 4 + 1), answer.getRoot().getVector("key").getObject(0).toString());
        assertSame(all.cell(at % 4), ManyTest.opaque(answer.getRoot(), 0));
      }
      assertNull(lookup.answer());
    }
  }

  private void failed(String code, String key, String fragment, Object... members) throws Exception {
    try (Lookup lookup = lookup(members)) {
      refused(
          code,
          () -> {
            lookup.ask(List.of(key));
            lookup.answer();
          },
          fragment);
    }
  }

  @Test
  void refusals() throws Exception {
    failed("failed_precondition", "a", "float32", "dtype", "int8", "shape", List.of(2, 3));
    failed("invalid_argument", "a", "colour", "colour", 1);
    failed("invalid_argument", "", "key");
    failed("unimplemented", "a", "exchange", "exchange", "frobnicate");
  }

  /** An answer that was given stands when a later batch ends the stream. */
  @Test
  void aLaterFailure() throws Exception {
    try (Lookup lookup = lookup()) {
      lookup.ask(List.of("a"));
      assertEquals(1, lookup.answer().getRoot().getRowCount());
      lookup.ask(List.of(""));
      refused("invalid_argument", lookup::answer, "key");
    }
    assertFalse(get("keys", List.of("a")).keys().isEmpty());
  }
}
