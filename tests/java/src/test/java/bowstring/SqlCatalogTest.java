package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.Method;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What DBeaver and its like ask of a database before they show it. */
class SqlCatalogTest extends Space {
  private Connection connection;
  private DatabaseMetaData about;

  @BeforeEach
  void connect() throws Exception {
    put(to("key", "a"), Tensor.sample("float32", 2, 2));
    connection = SqlTest.sql(address());
    about = connection.getMetaData();
  }

  @AfterEach
  void disconnect() throws Exception {
    connection.close();
  }

  /** These columns of every row, with a space between. */
  private static List<String> rows(ResultSet rows, String... columns) throws SQLException {
    List<String> all = new ArrayList<>();
    try (rows) {
      while (rows.next()) {
        List<String> cells = new ArrayList<>();
        for (String column : columns) {
          cells.add(rows.getString(column));
        }
        all.add(String.join(" ", cells));
      }
    }
    return all;
  }

  @Test
  void catalogsAndSchemas() throws Exception {
    assertEquals(List.of("bowstring"), rows(about.getCatalogs(), "TABLE_CAT"));
    List<String> schemas = List.of("bowstring cache", "bowstring information_schema", "bowstring ns");
    assertEquals(schemas, rows(about.getSchemas(), "TABLE_CATALOG", "TABLE_SCHEM"));
    assertEquals(List.of("cache"), rows(about.getSchemas("bowstring", "c%"), "TABLE_SCHEM"));
    assertEquals(List.of(), rows(about.getSchemas("other", null), "TABLE_SCHEM"));
    assertEquals(List.of("TABLE", "VIEW"), rows(about.getTableTypes(), "TABLE_TYPE"));
  }

  @Test
  void tablesByTypeAndPattern() throws Exception {
    List<String> all = rows(about.getTables(null, null, "%", null), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE");
    assertTrue(all.containsAll(List.of("cache tensors TABLE", "cache namespaces VIEW", "information_schema columns VIEW")), all::toString);
    assertTrue(all.contains("ns " + namespace + " TABLE"), all::toString);
    assertEquals(List.of("tensors"), rows(about.getTables("bowstring", "cache", "t%", new String[] {"TABLE"}), "TABLE_NAME"));
    assertEquals(List.of("slow_requests"), rows(about.getTables(null, "cache", "slow\\_%", null), "TABLE_NAME"));
    List<String> views = rows(about.getTables("bowstring", "cache", null, new String[] {"VIEW"}), "TABLE_NAME");
    assertTrue(views.contains("memory") && !views.contains("tensors"), views::toString);
    assertEquals(List.of(), rows(about.getTables(null, null, "%", new String[] {"SYNONYM"}), "TABLE_NAME"));
    assertEquals(List.of(), rows(about.getTables("other", null, "%", null), "TABLE_NAME"));
  }

  @Test
  void columnsAreOfTheirTypes() throws Exception {
    assertEquals(
        List.of(
            "1 namespace VARCHAR NO",
            "2 key VARCHAR NO",
            "3 version VARCHAR NO",
            "4 dtype VARCHAR NO",
            "5 shape ARRAY NO",
            "6 rank INTEGER NO",
            "7 elements BIGINT NO",
            "8 bytes BIGINT NO",
            "9 tier VARCHAR NO",
            "10 created_at TIMESTAMP_WITH_TIMEZONE NO",
            "11 last_access_at TIMESTAMP_WITH_TIMEZONE YES",
            "12 hits BIGINT NO",
            "13 expires_at TIMESTAMP_WITH_TIMEZONE YES",
            "14 pins INTEGER NO",
            "15 checksum VARCHAR YES",
            "16 metadata JAVA_OBJECT NO",
            "17 value JAVA_OBJECT NO"),
        rows(about.getColumns("bowstring", "cache", "tensors", "%"), "ORDINAL_POSITION", "COLUMN_NAME", "TYPE_NAME", "IS_NULLABLE"));
    assertEquals(List.of("created_at"), rows(about.getColumns(null, "cache", "tensors", "created%"), "COLUMN_NAME"));
    assertEquals(List.of("value ARRAY"), rows(about.getColumns(null, "ns", namespace, "value"), "COLUMN_NAME", "TYPE_NAME"));
  }

  @Test
  void noTableHasKeysIndexesOrProcedures() throws Exception {
    for (ResultSet none :
        List.of(
            about.getPrimaryKeys("bowstring", "cache", "tensors"),
            about.getImportedKeys("bowstring", "cache", "tensors"),
            about.getExportedKeys("bowstring", "cache", "tensors"),
            about.getCrossReference("bowstring", "cache", "tensors", "bowstring", "cache", "namespaces"),
            about.getIndexInfo("bowstring", "cache", "tensors", false, true),
            about.getProcedures("bowstring", "cache", "%"),
            about.getFunctions("bowstring", "cache", "%"),
            about.getTypeInfo())) {
      // The last is the driver's own answer: it asks no server.
      assertEquals(List.of(), rows(none));
    }
  }

  @Test
  void theServerSaysWhatItIs() throws Exception {
    assertEquals("Bowstring", about.getDatabaseProductName());
    assertTrue(about.getDatabaseProductVersion().matches("\\d+\\.\\d+\\.\\d+.*"), about.getDatabaseProductVersion());
    assertEquals("\"", about.getIdentifierQuoteString());
    assertEquals("\\", about.getSearchStringEscape());
    assertEquals("schema catalog", about.getSchemaTerm() + " " + about.getCatalogTerm());
    assertTrue(about.getSQLKeywords().contains("LIMIT"));
    assertTrue(about.getNumericFunctions().contains("sqrt"));
    assertTrue(about.getStringFunctions().contains("starts_with"));
    assertTrue(about.getTimeDateFunctions().contains("date_trunc"));
    assertTrue(about.getSystemFunctions().contains("coalesce"));
    assertEquals(1 << 20, about.getMaxStatementLength());
    assertEquals(0, about.getMaxColumnNameLength());
    assertFalse(about.supportsTransactions());
    assertFalse(about.supportsSavepoints());
    assertFalse(about.isReadOnly());
    assertTrue(about.supportsBatchUpdates());
    assertTrue(about.supportsFullOuterJoins());
    assertTrue(about.supportsCorrelatedSubqueries());
    assertTrue(about.supportsGroupByUnrelated());
    assertTrue(about.supportsUnionAll());
    assertTrue(about.supportsResultSetType(ResultSet.TYPE_FORWARD_ONLY));
    assertEquals(Connection.TRANSACTION_NONE, about.getDefaultTransactionIsolation());
  }

  /** The driver fails over an info that has no value, or one of another type. */
  @Test
  void everyQuestionWithoutArgumentsHasAnAnswer() throws Exception {
    int asked = 0;
    for (Method question : DatabaseMetaData.class.getMethods()) {
      if (question.getParameterCount() == 0) {
        Object answer = question.invoke(about);
        if (answer instanceof ResultSet rows) {
          rows.close();
        } else if (question.getReturnType() == boolean.class) {
          assertInstanceOf(Boolean.class, answer);
        }
        asked++;
      }
    }
    assertTrue(asked > 100, asked + " of " + Arrays.toString(DatabaseMetaData.class.getMethods()));
  }
}
