package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.arrow.flight.ActionType;
import org.junit.jupiter.api.Test;

class ActionsTest extends Space {
  @Test
  void listed() {
    Map<String, String> described = new HashMap<>();
    for (ActionType action : client.listActions()) {
      described.put(action.getType(), action.getDescription());
    }
    for (String name : List.of("exists", "delete", "describe", "stats", "namespace_set", "begin_load", "rollback_load")) {
      assertTrue(described.get(name).contains("members"), name);
    }
  }

  @Test
  void existsAndDelete() throws Exception {
    put(to("key", "a"), Tensor.sample("int8", 3));
    put(to("key", "b"), Tensor.sample("int8", 3));
    JsonNode exists = act("exists", "keys", List.of("a", "no", "b"));
    assertEquals(1, exists.get("leading").asInt());
    List<Boolean> found = new ArrayList<>();
    exists.get("keys").forEach(key -> found.add(key.get("found").asBoolean()));
    assertEquals(Arrays.asList(true, false, true), found);
    refused("failed_precondition", () -> act("delete", "keys", List.of("a"), "if_version", "1"), "version");
    assertEquals(1, act("delete", "keys", List.of("a", "no")).get("deleted").asInt());
    assertEquals("{\"deleted\":1}", act("delete", "prefix", "").toString());
  }

  @Test
  void describe() throws Exception {
    JsonNode result = put(to("key", "a", "metadata", Map.of("model", "m1")), Tensor.sample("complex64", 3, 5));
    JsonNode row = act("describe", "keys", List.of("a")).at("/keys/0");
    assertEquals("\"complex64\"[3,5]120", row.get("dtype").toString() + row.get("shape") + row.get("bytes"));
    assertEquals(result.get("version"), row.get("version"));
    assertEquals("m1", row.at("/metadata/model").asText());
  }

  @Test
  void expiryAndPins() throws Exception {
    put(to("key", "a"), Tensor.sample("int8", 3));
    List<String> keys = List.of("a");
    act("expire", "keys", keys, "ttl_ms", 1_000_000);
    act("pin", "keys", keys);
    JsonNode row = act("exists", "keys", keys).at("/keys/0");
    assertTrue(row.get("pinned").asBoolean() && row.get("ttl_ms").asLong() > 0, row.toString());
    act("expire", "keys", keys, "ttl_ms", null);
    act("unpin", "keys", keys);
    assertEquals("{\"key\":\"a\",\"found\":true}", act("exists", "keys", keys).at("/keys/0").toString());
  }

  @Test
  void namespaces() throws Exception {
    put(to("key", "a"), Tensor.sample("int8", 3));
    JsonNode set = act("namespace_set", "settings", Map.of("entries_max", 10), "if_version", "0");
    refused(
        "failed_precondition",
        () -> act("namespace_set", "settings", Map.of(), "if_version", "0"),
        set.get("version").asText());
    Map<String, Object> one = Map.of("after", namespace.substring(0, namespace.length() - 1), "limit", 1);
    JsonNode row = Calls.act(client, "namespaces", one).at("/namespaces/0");
    assertEquals(namespace, row.get("namespace").asText());
    assertEquals("1 {\"entries_max\":10}", row.get("entries") + " " + row.get("settings"));
    assertEquals(1, act("clear", "confirm", true).get("deleted").asInt());
  }

  @Test
  void stats() throws Exception {
    JsonNode memory = Calls.act(client, "stats", Map.of()).get("memory");
    assertTrue(memory.get("used_bytes").asLong() <= memory.get("limit_bytes").asLong());
  }

  @Test
  void refusals() {
    refused("unimplemented", () -> act("frobnicate"), "frobnicate");
    refused("invalid_argument", () -> act("attach"), "files");
    refused("invalid_argument", () -> act("exists"), "keys");
    refused("invalid_argument", () -> act("exists", "keys", List.of("a"), "colour", 1), "colour");
    refused("invalid_argument", () -> act("expire", "keys", List.of("a"), "ttl_ms", 0), "ttl_ms");
    refused("invalid_argument", () -> act("clear"), "confirm");
  }
}
