package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.vector.ipc.ArrowStreamReader;
import org.junit.jupiter.api.Named;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The golden vectors: what PyArrow has written is read by Java, written again by Java, and stored as it should be. */
class VectorsTest extends Space {
  private static final Path FOLDER = Server.repository().resolve("proto-notes").resolve("vectors");

  /** The client sends each dictionary once, before the first batch: what changes later it does not send. */
  private static final Set<String> CHANGING = Set.of("bulk/key-deltas.arrows", "bulk/key-replaced.arrows");

  private static Stream<Named<JsonNode>> entries(String name) throws IOException {
    return StreamSupport.stream(Calls.JSON.readTree(FOLDER.resolve(name).toFile()).spliterator(), false)
        .filter(entry -> !CHANGING.contains(entry.get("file").asText()))
        .map(entry -> Named.of(entry.get("file").asText(), entry));
  }

  private static Tensor tensor(JsonNode entry) {
    byte[] data = HexFormat.of().parseHex(entry.get("data").asText());
    return new Tensor(entry.get("dtype").asText(), Tensor.shapeOf(entry.get("shape").toString()), data);
  }

  private JsonNode putAgain(FlightDescriptor where, JsonNode entry) throws Exception {
    try (ArrowStreamReader reader =
        new ArrowStreamReader(Files.newInputStream(FOLDER.resolve(entry.get("file").asText())), allocator)) {
      // The client sends the dictionaries first, so that they must be there before it begins.
      boolean[] first = {reader.loadNextBatch(), true};
      BooleanSupplier next =
          () -> {
            if (first[1]) {
              first[1] = false;
              return first[0];
            }
            try {
              return reader.loadNextBatch();
            } catch (IOException e) {
              throw new UncheckedIOException(e);
            }
          };
      return Calls.put(client, where, reader.getVectorSchemaRoot(), reader, next);
    }
  }

  static Stream<Named<JsonNode>> puts() throws IOException {
    return entries("put.json");
  }

  @ParameterizedTest
  @MethodSource
  void puts(JsonNode entry) throws Exception {
    String key = entry.get("file").asText();
    if (entry.has("code")) {
      refused(entry.get("code").asText(), () -> putAgain(to("key", key), entry));
      return;
    }
    putAgain(to("key", key), entry);
    assertSame(tensor(entry), get("key", key, "layout", "flat").tensor());
    assertSame(tensor(entry), get("key", key).tensor());
  }

  static Stream<Named<JsonNode>> bulks() throws IOException {
    return entries("bulk.json");
  }

  @ParameterizedTest
  @MethodSource
  void bulks(JsonNode entry) throws Exception {
    act("clear", "confirm", true);
    Map<String, Object> command = in();
    entry.get("command").properties().forEach(member -> command.put(member.getKey(), member.getValue()));
    List<String> wrong = new ArrayList<>();
    for (JsonNode error : putAgain(Calls.command(command), entry).get("errors")) {
      wrong.add(error.get("row") + " " + error.get("code"));
    }
    List<String> expected = new ArrayList<>();
    for (JsonNode row : entry.get("rows")) {
      if (row.has("code")) {
        expected.add(row.get("row") + " " + row.get("code"));
      } else {
        assertSame(tensor(row), get("key", row.get("key").asText()).tensor());
      }
    }
    assertEquals(expected, wrong);
  }
}
