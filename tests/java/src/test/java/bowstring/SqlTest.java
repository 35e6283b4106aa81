package bowstring;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Calendar;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;
import java.util.TreeMap;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** SQL by the JDBC driver of Flight SQL, as programs and DBeaver use it. */
class SqlTest extends Space {
  /** Which says how it allocates, and that it does not know the extension types of tensors. */
  private static final Logger DRIVER = Logger.getLogger("org.apache.arrow.driver.jdbc.shaded");

  private static final Calendar UTC = Calendar.getInstance(TimeZone.getTimeZone("UTC"));

  static {
    DRIVER.setLevel(Level.WARNING);
  }

  private Connection connection;

  /** The address is what the server prints, `grpc://HOST:PORT`. */
  static Connection sql(String address) throws SQLException {
    return DriverManager.getConnection(address.replace("grpc:", "jdbc:arrow-flight-sql:") + "/?useEncryption=false");
  }

  @BeforeEach
  void connect() throws Exception {
    connection = sql(address());
    for (String key : List.of("a", "b", "c")) {
      put(to("key", key, "metadata", Map.of("model", "m-" + key)), Tensor.sample("float32", 2, 2));
    }
  }

  @AfterEach
  void disconnect() throws Exception {
    connection.close(); // which fails where a stream was left open
  }

  /** The first column of every row, as text. */
  private static List<String> first(ResultSet rows) throws SQLException {
    List<String> all = new ArrayList<>();
    try (rows) {
      while (rows.next()) {
        all.add(rows.getString(1));
      }
    }
    return all;
  }

  private List<String> query(String text) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      return first(statement.executeQuery(text));
    }
  }

  private List<String> keys() throws SQLException {
    return query("SELECT key FROM tensors WHERE namespace = '" + namespace + "' ORDER BY key");
  }

  @Test
  void whatTheGuideShows() throws Exception {
    String hostAndPort = address().replace("grpc://", "");
    // snippet: jdbc
    List<String> found = new ArrayList<>();
    String url = "jdbc:arrow-flight-sql://" + hostAndPort + "/?useEncryption=false";
    String text = "SELECT key, bytes, created_at FROM tensors WHERE namespace = ? ORDER BY key LIMIT ?";
    try (Connection connection = DriverManager.getConnection(url);
        PreparedStatement statement = connection.prepareStatement(text)) {
      statement.setString(1, namespace);
      statement.setInt(2, 10);
      try (ResultSet rows = statement.executeQuery()) {
        while (rows.next()) {
          OffsetDateTime created = rows.getObject("created_at", OffsetDateTime.class);
          found.add(rows.getString("key") + ": " + rows.getLong("bytes") + " bytes, put in " + created.getYear());
        }
      }
    }
    // snippet end
    assertEquals(3, found.size());
    assertTrue(found.get(0).matches("a: 16 bytes, put in \\d{4}"), found.get(0));
  }

  @Test
  void everyColumnOfTensorsIsRead() throws Exception {
    act("expire", "keys", List.of("b"), "ttl_ms", 3_600_000);
    String text = "SELECT * FROM tensors WHERE namespace = '" + namespace + "' AND key < 'c' ORDER BY key";
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(text)) {
      assertTrue(rows.next());
      assertEquals(namespace, rows.getString("namespace"));
      assertEquals("a", rows.getString("key"));
      assertEquals("float32", rows.getObject("dtype"));
      assertArrayEquals(new Object[] {2L, 2L}, (Object[]) rows.getArray("shape").getArray());
      assertEquals("[2,2]", rows.getString("shape"));
      assertEquals(2, rows.getInt("rank"));
      assertEquals(2, rows.getObject("rank"));
      assertEquals(4, rows.getLong("elements"));
      assertEquals(16L, rows.getObject("bytes"));
      assertEquals("hot", rows.getString("tier"));
      Instant created = rows.getObject("created_at", OffsetDateTime.class).toInstant();
      assertEquals(created, rows.getTimestamp("created_at", UTC).toInstant());
      assertTrue(created.isAfter(Instant.EPOCH));
      assertNotNull(rows.getString("created_at"));
      assertNull(rows.getTimestamp("expires_at"));
      assertTrue(rows.wasNull());
      assertNull(rows.getObject("expires_at", OffsetDateTime.class));
      assertEquals(0, rows.getInt("pins"));
      assertFalse(rows.wasNull());
      assertFalse(rows.getString("checksum").isEmpty());
      assertEquals("{\"model\":\"m-a\"}", rows.getString("metadata"));
      assertEquals(Map.of("model", "m-a"), texts(rows.getObject("metadata", Map.class)));
      Map<?, ?> value = rows.getObject("value", Map.class);
      assertEquals("float32", value.get("dtype").toString());
      assertEquals("[2,2]", value.get("shape").toString());
      assertArrayEquals(Tensor.sample("float32", 2, 2).data(), (byte[]) value.get("data"));
      assertTrue(rows.getString("value").startsWith("{\"dtype\":\"float32\",\"shape\":[2,2],\"data\":\""), "DBeaver's cell");
      assertTrue(rows.next());
      assertNotNull(rows.getTimestamp("expires_at"));
      assertFalse(rows.next());
    }
  }

  private static Map<String, String> texts(Map<?, ?> map) {
    Map<String, String> texts = new TreeMap<>();
    map.forEach((name, value) -> texts.put(name.toString(), value.toString()));
    return texts;
  }

  @Test
  void whatFunctionsMakeIsRead() throws Exception {
    String of = " FROM tensors WHERE namespace = '" + namespace + "' AND key = 'a'";
    for (String text :
        List.of(
            "substr(key || 'bc', 1, 2) = 'ab'",
            "metadata['model'] = 'm-a'",
            "value IS NOT NULL",
            "norm(value) >= 0")) {
      assertEquals(List.of("true"), query("SELECT " + text + of), text);
    }
    assertEquals(List.of("[1,2]"), query("SELECT [1, 2]"));
    assertEquals(List.of("1.50"), query("SELECT CAST(1.5 AS DECIMAL(10, 2))"));
    assertEquals(List.of("2030-01-31"), query("SELECT DATE '2030-01-31'"));
    assertEquals(List.of("12:34:56"), query("SELECT TIME '12:34:56'"));
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("SELECT arrow_cast(to_binary(value), 'Binary')" + of)) {
      assertTrue(rows.next());
      assertArrayEquals(Tensor.sample("float32", 2, 2).data(), rows.getBytes(1));
    }
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("SELECT to_list(value), value FROM ns.\"" + namespace + "\" WHERE key = 'a'")) {
      assertTrue(rows.next());
      assertEquals(4, ((Object[]) rows.getArray(1).getArray()).length);
      assertEquals(4, ((Object[]) rows.getArray(2).getArray()).length, "the tensor's own column");
    }
    assertTrue(query("EXPLAIN SELECT key" + of).contains("physical_plan"));
  }

  @Test
  void preparedQueriesTakeParameters() throws Exception {
    String text =
        "SELECT key FROM tensors WHERE namespace = ? AND starts_with(metadata['model'], ?) AND bytes < ? AND created_at > ?"
            + " ORDER BY key LIMIT ?";
    try (PreparedStatement statement = connection.prepareStatement(text)) {
      ParameterMetaData parameters = statement.getParameterMetaData();
      assertEquals(5, parameters.getParameterCount());
      assertEquals(Types.VARCHAR, parameters.getParameterType(1));
      assertEquals(Types.VARCHAR, parameters.getParameterType(2));
      assertEquals(Types.BIGINT, parameters.getParameterType(3));
      assertEquals(Types.BIGINT, parameters.getParameterType(5));
      assertEquals("key", statement.getMetaData().getColumnName(1));
      for (int limit = 1; limit <= 3; limit++) {
        statement.setString(1, namespace);
        statement.setString(2, "m-");
        statement.setLong(3, 1_000);
        statement.setTimestamp(4, new Timestamp(0), UTC);
        statement.setInt(5, limit);
        assertEquals(List.of("a", "b", "c").subList(0, limit), first(statement.executeQuery()));
      }
      statement.setNull(1, Types.VARCHAR);
      assertEquals(List.of(), first(statement.executeQuery()), "nothing is equal to null");
    }
  }

  @Test
  void preparedChangesAreRunOnceAndCounted() throws Exception {
    String text = "UPDATE tensors SET pinned = ?, expires_at = ? WHERE namespace = ? AND key < ?";
    Instant then = Instant.parse("2040-01-01T00:00:00Z");
    try (PreparedStatement statement = connection.prepareStatement(text)) {
      statement.setBoolean(1, true);
      statement.setTimestamp(2, Timestamp.from(then), UTC);
      statement.setString(3, namespace);
      statement.setString(4, "c");
      assertEquals(2, statement.executeUpdate());
    }
    String set = "SELECT key FROM tensors WHERE namespace = '" + namespace + "' AND pins = 1 AND expires_at = '2040-01-01T00:00:00Z'";
    assertEquals(List.of("a", "b"), query(set + " ORDER BY key"));
    try (PreparedStatement statement = connection.prepareStatement("DELETE FROM tensors WHERE namespace = ? AND key = ?")) {
      statement.setString(1, namespace);
      statement.setString(2, "a");
      assertEquals(1, statement.executeUpdate());
      assertEquals(0, statement.executeUpdate(), "it has gone");
      // A batch goes as one call: the driver gives the sum, not a number for each row.
      for (String key : List.of("b", "none", "c")) {
        statement.setString(1, namespace);
        statement.setString(2, key);
        statement.addBatch();
      }
      assertArrayEquals(new int[] {2}, statement.executeBatch());
      assertEquals(List.of(), keys());
    }
  }

  @Test
  void aPreparedChangeThatIsExecutedLikeAnyTextIsRunOnce() throws Exception {
    try (PreparedStatement statement = connection.prepareStatement("DELETE FROM tensors WHERE namespace = ? AND key > ?")) {
      statement.setString(1, namespace);
      statement.setString(2, "a");
      // The driver takes it for a query, whose one row is the count.
      assertTrue(statement.execute());
      assertEquals(List.of("2"), first(statement.getResultSet()));
    }
    assertEquals(List.of("a"), keys());
  }

  @Test
  void textsThatChangeAreCounted() throws Exception {
    String where = " WHERE namespace = '" + namespace + "' AND key = ";
    try (Statement statement = connection.createStatement()) {
      assertEquals(1, statement.executeUpdate("UPDATE tensors SET pinned = true" + where + "'a'"));
      assertFalse(statement.execute("DELETE FROM tensors" + where + "'b'"));
      assertEquals(1, statement.getUpdateCount());
      assertEquals(1, statement.executeLargeUpdate("DELETE FROM tensors" + where + "'a'"));
      assertEquals(0, statement.executeUpdate("DELETE FROM tensors WHERE false"));
      assertTrue(statement.execute("SELECT 1"));
      assertEquals(List.of("1"), first(statement.getResultSet()));
    }
    assertEquals(List.of("c"), keys());
  }

  @Test
  void rowsAreLimitedByTheDriverAndManyAreRead() throws Exception {
    try (Statement statement = connection.createStatement()) {
      statement.setMaxRows(2);
      statement.setFetchSize(1);
      statement.setQueryTimeout(60);
      assertEquals(List.of("1", "2"), first(statement.executeQuery("SELECT * FROM generate_series(1, 100000)")));
      statement.setMaxRows(0);
      int rows = 0;
      try (ResultSet all = statement.executeQuery("SELECT * FROM generate_series(1, 100000)")) {
        while (all.next()) {
          assertEquals(++rows, all.getLong(1));
        }
      }
      assertEquals(100_000, rows);
      assertEquals(List.of(), first(statement.executeQuery("SELECT key FROM tensors WHERE false")));
    }
  }

  @Test
  void twoStatementsAtOnce() throws Exception {
    String text = "SELECT key FROM tensors WHERE namespace = '" + namespace + "' ORDER BY key";
    try (Statement one = connection.createStatement();
        Statement other = connection.createStatement();
        ResultSet slow = one.executeQuery(text);
        ResultSet fast = other.executeQuery(text + " DESC")) {
      assertTrue(slow.next() && fast.next() && fast.next());
      assertEquals("a b", slow.getString(1) + " " + fast.getString(1));
      assertTrue(slow.next() && fast.next());
      assertEquals("b a", slow.getString(1) + " " + fast.getString(1));
    }
  }

  @Test
  void aQueryIsCancelled() throws Exception {
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("SELECT * FROM generate_series(1, 1000000000000)")) {
      assertTrue(rows.next());
      statement.cancel();
      SQLException cancelled =
          assertThrows(
              SQLException.class,
              () -> {
                while (rows.next()) {
                  assertTrue(rows.getLong(1) > 0);
                }
              });
      assertEquals("Statement canceled", cancelled.getMessage());
    }
    assertEquals(List.of("1"), query("SELECT 1"), "the connection is as before");
  }

  @Test
  void anErrorsMessageComesThrough() throws Exception {
    for (List<String> each :
        List.of(
            List.of("SELECT nothing FROM tensors", "invalid_argument: ", "No field named nothing"),
            List.of("SELEC 1", "invalid_argument: ", "SELEC"),
            List.of("SELECT 1/0", "invalid_argument: ", "Divide by zero"),
            List.of("DROP TABLE tensors", "unimplemented: ", "SQL does not do that here"),
            List.of("DELETE FROM tensors", "invalid_argument: ", "WHERE true"))) {
      String said = assertThrows(SQLException.class, () -> query(each.get(0))).getMessage();
      assertTrue(each.stream().allMatch(said::contains), said);
    }
    SQLException unprepared = assertThrows(SQLException.class, () -> connection.prepareStatement("SELECT nothing FROM tensors").close());
    assertTrue(unprepared.getCause().getMessage().contains("No field named nothing"), unprepared.getCause().getMessage());
    assertEquals(List.of("a", "b", "c"), keys(), "the connection is as before");
  }

  @Test
  void eachStatementStandsForItself() throws Exception {
    assertTrue(connection.getAutoCommit());
    connection.setAutoCommit(true);
    assertTrue(connection.isValid(60));
    assertFalse(connection.isClosed());
    assertEquals(Connection.TRANSACTION_NONE, connection.getTransactionIsolation());
    assertNull(connection.getWarnings());
    connection.clearWarnings();
  }
}
