package bowstring;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Ticket;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.util.hash.ArrowBufHasher;
import org.apache.arrow.vector.BitVector;
import org.apache.arrow.vector.DateDayVector;
import org.apache.arrow.vector.ExtensionTypeVector;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.IntVector;
import org.apache.arrow.vector.TinyIntVector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.complex.FixedSizeListVector;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.ExtensionTypeRegistry;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.FieldType;
import org.apache.arrow.vector.types.pojo.Schema;
import org.apache.arrow.vector.util.Text;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class DtypesTest extends Space {
  private static final List<Integer[]> SHAPES =
      List.of(new Integer[] {}, new Integer[] {5}, new Integer[] {3, 4}, new Integer[] {2, 3, 4});

  static Stream<String> dtypes() {
    return Tensor.STORAGE.keySet().stream();
  }

  @ParameterizedTest
  @MethodSource("dtypes")
  void everyDtype(String dtype) throws Exception {
    for (Integer[] shape : SHAPES) {
      Tensor one = Tensor.sample(dtype, shape);
      String key = dtype + shape.length;
      put(to("key", key), one);
      for (String layout : List.of("rows", "flat")) {
        Answer answer = get("key", key, "layout", layout);
        assertSame(one, answer.tensor());
        String named = answer.schema().findField("tensor").getMetadata().get("tensor.dtype");
        assertEquals(Tensor.NAMED.contains(dtype) ? dtype : null, named);
      }
      Calls.get(
          client,
          Calls.text(in("key", key, "layout", "opaque")),
          (batch, said) -> assertSame(one, ManyTest.opaque(batch, 0)));
    }
    covered("everyDtype", dtype);
  }

  private JsonNode put(String key, FieldVector column) throws Exception {
    try (VectorSchemaRoot root = VectorSchemaRoot.of(column)) {
      return put(to("key", key), root, new DictionaryProvider.MapDictionaryProvider());
    }
  }

  /** Booleans may come as Arrow's bits and as bool8; they are bytes of 0 and 1 afterwards. */
  @Test
  void booleans() throws Exception {
    byte[] values = {1, 0, 0, 1, 1, 1, 0, 1, 0, 1};
    BitVector bits = new BitVector("bits", allocator);
    Field bool8 =
        new Field("bool8", new FieldType(true, new ArrowType.Int(8, true), null, Map.of("ARROW:extension:name", "arrow.bool8")), null);
    TinyIntVector bytes = new TinyIntVector(bool8, allocator);
    for (int at = 0; at < values.length; at++) {
      bits.setSafe(at, values[at]);
      bytes.setSafe(at, -3 * values[at]);
    }
    bits.setValueCount(values.length);
    bytes.setValueCount(values.length);
    put("bits", bits);
    put("bool8", bytes);
    for (String key : List.of("bits", "bool8")) {
      assertSame(new Tensor("bool", List.of(10), values), get("key", key).tensor());
    }
    Tensor wrong = new Tensor("bool", List.of(2), new byte[] {1, 2});
    refused("invalid_argument", () -> put(to("key", "wrong"), wrong), "bool");
  }

  @Test
  void typesThatAreRefused() {
    VarCharVector text = new VarCharVector("text", allocator);
    text.setSafe(0, new Text("no tensor"));
    text.setValueCount(1);
    refused("invalid_argument", () -> put("a", text));
    DateDayVector days = new DateDayVector("days", allocator);
    days.setSafe(0, 1);
    days.setValueCount(1);
    refused("invalid_argument", () -> put("a", days));
    IntVector nulls = new IntVector("nulls", allocator);
    nulls.setSafe(1, 1);
    nulls.setValueCount(3);
    refused("invalid_argument", () -> put("a", nulls), "null");
  }

  /** What a user may register, so that columns come as such: the library has no type of its own for tensors. */
  private static final class FixedShape extends ArrowType.ExtensionType {
    private final ArrowType storage;
    private final String shape;

    FixedShape(ArrowType storage, String shape) {
      this.storage = storage;
      this.shape = shape;
    }

    @Override
    public ArrowType storageType() {
      return storage;
    }

    @Override
    public String extensionName() {
      return "arrow.fixed_shape_tensor";
    }

    @Override
    public boolean extensionEquals(ExtensionType other) {
      return other instanceof FixedShape that && shape.equals(that.shape) && storage.equals(that.storage);
    }

    @Override
    public String serialize() {
      return shape;
    }

    @Override
    public ArrowType deserialize(ArrowType storageType, String serialized) {
      return new FixedShape(storageType, serialized);
    }

    @Override
    public FieldVector getNewVector(String name, FieldType type, BufferAllocator allocator) {
      FieldType plain = new FieldType(type.isNullable(), storage, null);
      return new FixedShapeVector(name, type, allocator, new FixedSizeListVector(name, allocator, plain, null));
    }
  }

  private static final class FixedShapeVector extends ExtensionTypeVector<FixedSizeListVector> {
    private final FieldType type;

    FixedShapeVector(String name, FieldType type, BufferAllocator allocator, FixedSizeListVector list) {
      super(name, allocator, list);
      this.type = type;
    }

    @Override
    public Field getField() {
      return new Field(getName(), type, getUnderlyingVector().getField().getChildren());
    }

    @Override
    public Object getObject(int index) {
      return getUnderlyingVector().getObject(index);
    }

    @Override
    public int hashCode(int index) {
      return getUnderlyingVector().hashCode(index);
    }

    @Override
    public int hashCode(int index, ArrowBufHasher hasher) {
      return getUnderlyingVector().hashCode(index, hasher);
    }
  }

  @Test
  void aRegisteredExtensionType() throws Exception {
    Tensor one = Tensor.sample("float16", 5, 2, 3);
    FixedShape type = new FixedShape(new ArrowType.FixedSizeList(6), "{\"shape\":[2,3]}");
    ExtensionTypeRegistry.register(type);
    try {
      put(to("key", "a"), one);
      try (FlightStream stream = client.getStream(new Ticket(Calls.text(in("key", "a")).getBytes()))) {
        assertTrue(stream.next());
        FieldVector column = stream.getRoot().getVector("tensor");
        assertEquals("{\"shape\":[2,3]}", ((FixedShape) column.getField().getType()).serialize());
        assertArrayEquals(one.data(), Tensor.values(column));
        put(to("key", "b"), stream.getRoot(), stream.getDictionaryProvider());
      }
    } finally {
      ExtensionTypeRegistry.unregister(type);
    }
    Schema schema = get("key", "b").schema();
    assertEquals("arrow.fixed_shape_tensor", schema.findField("tensor").getMetadata().get("ARROW:extension:name"));
    assertSame(one, get("key", "b").tensor());
  }
}
