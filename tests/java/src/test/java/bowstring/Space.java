package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.apache.arrow.vector.types.pojo.Schema;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.function.Executable;

/** A client with a namespace that no other test uses; what a test leaves allocated fails it. */
abstract class Space {
  /** FAILED_PRECONDITION and DATA_LOSS have no status of their own in Java: tell them apart by the code. */
  private static final Map<String, FlightStatusCode> STATUSES =
      Map.of(
          "not_found", FlightStatusCode.NOT_FOUND,
          "already_exists", FlightStatusCode.ALREADY_EXISTS,
          "invalid_argument", FlightStatusCode.INVALID_ARGUMENT,
          "resource_exhausted", FlightStatusCode.RESOURCE_EXHAUSTED,
          "failed_precondition", FlightStatusCode.INVALID_ARGUMENT,
          "not_modified", FlightStatusCode.INVALID_ARGUMENT,
          "unimplemented", FlightStatusCode.UNIMPLEMENTED,
          "data_loss", FlightStatusCode.INTERNAL);

  /** Which says what the network does; held here, because a logger is forgotten with its last reference. */
  private static final Logger GRPC = Logger.getLogger("io.grpc");

  static {
    GRPC.setLevel(Level.WARNING);
  }

  BufferAllocator allocator;
  FlightClient client;
  String namespace;

  /** Writes down that a test had tensors of a dtype, for tests/run, which looks whether the table of docs/clients is true. */
  void covered(String test, String dtype) throws IOException {
    String path = System.getenv("COVERED");
    if (path != null) {
      String line = "tests/java/src/test/java/bowstring/" + getClass().getSimpleName() + ".java: " + test + ": " + dtype + "\n";
      Files.writeString(Path.of(path), line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }
  }

  @BeforeEach
  void open(TestInfo test) throws Exception {
    allocator = new RootAllocator();
    client = Calls.connect(address(), allocator);
    namespace = "java." + getClass().getSimpleName() + "." + test.getTestMethod().orElseThrow().getName();
  }

  @AfterEach
  void close() throws Exception {
    client.close();
    allocator.close();
  }

  /** The server that is talked to; a class that looks at memory has one of its own. */
  String address() throws Exception {
    return Server.common().flight;
  }

  /** These members within this namespace. */
  Map<String, Object> in(Object... members) {
    Map<String, Object> all = new HashMap<>(Map.of("namespace", namespace));
    for (int at = 0; at < members.length; at += 2) {
      all.put((String) members[at], members[at + 1]);
    }
    return all;
  }

  FlightDescriptor to(Object... members) {
    return Calls.command(in(members));
  }

  /** What comes of a stream: its schema, its batches' columns as bytes, and the JSON beside them. */
  record Answer(Schema schema, List<Map<String, byte[]>> batches, List<Integer> rows, List<String> keys, List<JsonNode> said) {
    Tensor tensor() {
      Map<String, String> metadata = schema.getCustomMetadata();
      return new Tensor(metadata.get("tensor.dtype"), Tensor.shapeOf(metadata.get("tensor.shape")), data());
    }

    /** All tensors of a get of many, of a dtype and a cell that the caller knows. */
    Tensor tensors(String dtype, Integer... cell) {
      List<Integer> shape = new ArrayList<>(List.of(cell));
      shape.add(0, rows.stream().mapToInt(Integer::intValue).sum());
      return new Tensor(dtype, shape, data());
    }

    private byte[] data() {
      ByteArrayOutputStream data = new ByteArrayOutputStream();
      batches.forEach(batch -> data.writeBytes(batch.get("tensor")));
      return data.toByteArray();
    }

    /** What the closing batches name; a stream without one is not complete. */
    List<String> missing() {
      List<String> names = new ArrayList<>();
      boolean complete = false;
      for (JsonNode each : said) {
        for (String member : List.of("missing", "gone")) {
          if (each != null && each.has(member)) {
            complete = true;
            each.get(member).forEach(name -> names.add(name.asText()));
          }
        }
      }
      assertTrue(complete, "no closing batch");
      return names;
    }
  }

  Answer get(Object... members) throws Exception {
    return read(client, Calls.text(in(members)));
  }

  static Answer read(FlightClient client, String ticket) throws Exception {
    Schema[] schema = new Schema[1];
    Answer all = new Answer(null, new ArrayList<>(), new ArrayList<>(), new ArrayList<>(), new ArrayList<>());
    Calls.get(
        client,
        ticket,
        (batch, said) -> {
          schema[0] = batch.getSchema();
          all.rows.add(batch.getRowCount());
          all.said.add(said);
          Map<String, byte[]> columns = new HashMap<>();
          for (FieldVector column : batch.getFieldVectors()) {
            if (column.getName().equals("tensor") && column.getValueCount() > 0) {
              columns.put("tensor", Tensor.values(column));
            }
          }
          columns.putIfAbsent("tensor", new byte[0]);
          all.batches.add(columns);
          if (batch.getVector("key") != null) {
            for (int row = 0; row < batch.getRowCount(); row++) {
              all.keys.add(batch.getVector("key").getObject(row).toString());
            }
          }
        });
    return new Answer(schema[0], all.batches, all.rows, all.keys, all.said);
  }

  JsonNode put(FlightDescriptor where, Tensor... batches) throws Exception {
    return put(client, where, batches);
  }

  JsonNode put(FlightClient client, FlightDescriptor where, Tensor... batches) throws Exception {
    try (VectorSchemaRoot root = VectorSchemaRoot.create(batches[0].schema(), allocator)) {
      int[] at = {0};
      return Calls.put(
          client,
          where,
          root,
          new DictionaryProvider.MapDictionaryProvider(),
          () -> {
            if (at[0] == batches.length) {
              return false;
            }
            batches[at[0]++].load(root, allocator);
            return true;
          });
    }
  }

  /** Puts what the root holds as one batch. */
  JsonNode put(FlightDescriptor where, VectorSchemaRoot root, DictionaryProvider dictionaries) throws Exception {
    boolean[] sent = {false};
    return Calls.put(client, where, root, dictionaries, () -> !sent[0] && (sent[0] = true));
  }

  JsonNode act(String action, Object... members) throws Exception {
    return Calls.act(client, action, in(members));
  }

  /** The call must be refused with this code, the status that goes with it, and these words. */
  static FlightRuntimeException refused(String code, Executable call, String... fragments) {
    FlightRuntimeException refused = assertThrows(FlightRuntimeException.class, call);
    String message = refused.status().description();
    assertEquals(code, Calls.codeOf(refused), message);
    assertEquals(STATUSES.get(code), refused.status().code(), message);
    assertTrue(message.startsWith(code + ": "), message);
    for (String fragment : fragments) {
      assertTrue(message.contains(fragment), message + " lacks " + fragment);
    }
    return refused;
  }

  static void assertSame(Tensor expected, Tensor found) {
    assertTrue(expected.same(found), () -> "expected " + expected + ", found " + found);
  }
}
