package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.arrow.flight.Criteria;
import org.apache.arrow.flight.FlightEndpoint;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.apache.arrow.vector.types.pojo.Schema;
import org.junit.jupiter.api.Test;

class InfoTest extends Space {
  private static String ticket(FlightEndpoint endpoint) {
    return new String(endpoint.getTicket().getBytes(), StandardCharsets.UTF_8);
  }

  private void bulk(List<String> keys, Tensor tensors) throws Exception {
    try (VectorSchemaRoot root = Rows.of(allocator, keys, tensors)) {
      put(to(), root, new DictionaryProvider.MapDictionaryProvider());
    }
  }

  @Test
  void byPath() throws Exception {
    Tensor one = Tensor.sample("bfloat16", 10, 3);
    JsonNode result = put(to("key", "a", "metadata", Map.of("model", "m1")), one);
    FlightInfo info = client.getInfo(Calls.path(namespace, "a"));
    assertEquals(10, info.getRecords());
    assertEquals(60, info.getBytes());
    assertEquals(1, info.getEndpoints().size());
    assertEquals(List.of(), info.getEndpoints().get(0).getLocations());
    JsonNode said = Calls.JSON.readTree(info.getAppMetadata());
    assertEquals("bfloat16", said.get("dtype").asText());
    assertEquals(result.get("version"), said.get("version"));
    assertEquals("m1", said.at("/metadata/model").asText());
    Answer answer = read(client, ticket(info.getEndpoints().get(0)));
    Schema schema = info.getSchemaOptional().orElseThrow();
    assertEquals(schema, answer.schema());
    assertEquals(schema.getCustomMetadata(), answer.schema().getCustomMetadata());
    assertEquals(schema, client.getSchema(Calls.path(namespace, "a")).getSchema());
    assertSame(one, answer.tensor());
  }

  @Test
  void aTicketHoldsItsVersion() throws Exception {
    put(to("key", "a"), Tensor.sample("int8", 3));
    FlightInfo info = client.getInfo(Calls.path(namespace, "a"));
    put(to("key", "a", "mode", "replace"), Tensor.sample("int8", 4));
    refused("failed_precondition", () -> client.getStream(info.getEndpoints().get(0).getTicket()).next(), "version");
  }

  @Test
  void ofMany() throws Exception {
    bulk(List.of("a", "b", "c"), Tensor.sample("float32", 3, 2));
    FlightInfo info = client.getInfo(to("keys", List.of("c", "no", "a")));
    assertEquals(2, info.getRecords());
    // The ticket carries dtype and shape, so the schema holds even if the keys go.
    act("delete", "keys", List.of("a", "c"));
    Answer answer = read(client, ticket(info.getEndpoints().get(0)));
    assertEquals(info.getSchemaOptional().orElseThrow(), answer.schema());
    assertEquals(List.of("c", "no", "a"), answer.missing());
  }

  @Test
  void partitions() throws Exception {
    List<String> keys = Rows.names("k", 100).stream().sorted().toList();
    Tensor all = Tensor.sample("float32", 100, 4);
    bulk(keys, all);
    FlightInfo info = client.getInfo(to("prefix", "", "dtype", "float32", "shape", List.of(4), "partitions", 4));
    assertEquals(4, info.getEndpoints().size());
    assertTrue(info.getEndpoints().get(0).getExpirationTime().isPresent());
    // One snapshot: what is put afterwards is in none of the parts.
    put(to("key", "k5.later"), Tensor.sample("float32", 4));
    List<String> found = new ArrayList<>();
    for (FlightEndpoint endpoint : info.getEndpoints()) {
      Answer part = read(client, ticket(endpoint));
      assertEquals(List.of(), part.missing());
      found.addAll(part.keys());
    }
    assertEquals(keys, found);
  }

  @Test
  void refusals() {
    refused("not_found", () -> client.getInfo(Calls.path(namespace, "no")), "no");
    refused("not_found", () -> client.getSchema(Calls.path(namespace, "no")));
    refused("invalid_argument", () -> client.getInfo(to("key", "a", "colour", 1)), "colour");
    refused("unimplemented", () -> client.pollInfo(Calls.path(namespace, "a")), "PollFlightInfo");
  }

  private List<String> list(Object... members) {
    List<String> keys = new ArrayList<>();
    Criteria criteria = new Criteria(Calls.text(in(members)).getBytes(StandardCharsets.UTF_8));
    for (FlightInfo info : client.listFlights(criteria)) {
      assertEquals(namespace, info.getDescriptor().getPath().get(0));
      keys.add(info.getDescriptor().getPath().get(1));
    }
    return keys;
  }

  @Test
  void listPageByPage() throws Exception {
    List<String> keys = new ArrayList<>(Rows.names("k", 25).stream().sorted().toList());
    keys.add("other");
    bulk(keys, Tensor.sample("int8", 26, 2));
    assertEquals(keys, list());
    List<String> listed = new ArrayList<>(list("prefix", "k", "limit", 10));
    assertEquals(10, listed.size());
    for (List<String> page = listed; !page.isEmpty(); listed.addAll(page)) {
      page = list("prefix", "k", "limit", 10, "after", listed.get(listed.size() - 1));
    }
    assertEquals(keys.subList(0, 25), listed);
    refused("invalid_argument", () -> list("limit", 0), "limit");
  }

  @Test
  void listWithoutCriteria() throws Exception {
    put(Calls.path("java.list"), Tensor.sample("int8", 3));
    FlightInfo first = client.listFlights(Criteria.ALL).iterator().next();
    assertEquals("default", first.getDescriptor().getPath().get(0));
  }
}
