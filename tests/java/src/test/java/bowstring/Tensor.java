package bowstring;

import com.fasterxml.jackson.core.JsonProcessingException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.BaseFixedWidthVector;
import org.apache.arrow.vector.ExtensionTypeVector;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.VectorLoader;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.complex.FixedSizeListVector;
import org.apache.arrow.vector.ipc.message.ArrowFieldNode;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.arrow.vector.types.FloatingPointPrecision;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.FieldType;
import org.apache.arrow.vector.types.pojo.Schema;

/** What is stored: a dtype by its name on the wire, a shape, and the bytes in C order. */
record Tensor(String dtype, List<Integer> shape, byte[] data) {

  /** The Arrow type that each dtype is kept in. */
  static final Map<String, ArrowType> STORAGE = new LinkedHashMap<>();

  static {
    for (int bits = 8; bits <= 64; bits *= 2) {
      STORAGE.put("int" + bits, new ArrowType.Int(bits, true));
      STORAGE.put("uint" + bits, new ArrowType.Int(bits, false));
    }
    STORAGE.put("float16", new ArrowType.FloatingPoint(FloatingPointPrecision.HALF));
    STORAGE.put("float32", new ArrowType.FloatingPoint(FloatingPointPrecision.SINGLE));
    STORAGE.put("float64", new ArrowType.FloatingPoint(FloatingPointPrecision.DOUBLE));
    STORAGE.put("bool", STORAGE.get("uint8"));
    STORAGE.put("bfloat16", STORAGE.get("uint16"));
    STORAGE.put("float8_e4m3fn", STORAGE.get("uint8"));
    STORAGE.put("float8_e5m2", STORAGE.get("uint8"));
    STORAGE.put("complex64", STORAGE.get("float32"));
    STORAGE.put("complex128", STORAGE.get("float64"));
  }

  /** Those that have no type of Arrow's own: field metadata name them. */
  static final List<String> NAMED =
      List.of("bool", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128");

  /** Random bits, so with NaNs and denormals where there are any. */
  static Tensor sample(String dtype, Integer... shape) {
    int width = dtype.startsWith("complex") ? 2 * width(dtype) : width(dtype);
    byte[] data = new byte[product(List.of(shape)) * width];
    new Random(dtype.hashCode() + shape.length).nextBytes(data);
    for (int at = 0; dtype.equals("bool") && at < data.length; at++) {
      data[at] &= 1;
    }
    return new Tensor(dtype, List.of(shape), data);
  }

  private static int width(String dtype) {
    ArrowType type = STORAGE.get(dtype);
    return type instanceof ArrowType.Int whole
        ? whole.getBitWidth() / 8
        : 2 << ((ArrowType.FloatingPoint) type).getPrecision().ordinal();
  }

  /** The shape of what Arrow keeps: complex numbers have one more axis of 2. */
  private List<Integer> stored() {
    List<Integer> stored = new ArrayList<>(shape);
    if (dtype.startsWith("complex")) {
      stored.add(2);
    }
    return stored;
  }

  /** The rows [from, to) of the leading axis. */
  Tensor rows(int from, int to) {
    List<Integer> part = new ArrayList<>(shape);
    part.set(0, to - from);
    int row = data.length / shape.get(0);
    return new Tensor(dtype, part, Arrays.copyOfRange(data, from * row, to * row));
  }

  /** One row as a tensor of its own. */
  Tensor cell(int at) {
    return new Tensor(dtype, shape.subList(1, shape.size()), rows(at, at + 1).data);
  }

  /** The column of one tensor; of many, where the leading axis counts them. */
  Field field() {
    List<Integer> stored = stored();
    return field(dtype, STORAGE.get(dtype), stored.subList(Math.min(1, stored.size()), stored.size()));
  }

  // snippet: field
  /**
   * A column of tensors, each of the shape `cell`. Arrow's Java library has no type for them, so the extension is written
   * into the field's metadata; without it, FixedSizeList alone is taken as well.
   */
  static Field field(String dtype, ArrowType element, List<Integer> cell) {
    Map<String, String> metadata = new LinkedHashMap<>();
    if (NAMED.contains(dtype)) { // such as bool, bfloat16, complex64
      metadata.put("tensor.dtype", dtype);
    }
    if (cell.isEmpty()) {
      return new Field("tensor", new FieldType(false, element, null, metadata), null);
    }
    metadata.put("ARROW:extension:name", "arrow.fixed_shape_tensor");
    metadata.put("ARROW:extension:metadata", "{\"shape\": " + cell + "}");
    ArrowType list = new ArrowType.FixedSizeList(product(cell));
    Field item = new Field("item", new FieldType(false, element, null), null);
    return new Field("tensor", new FieldType(false, list, null, metadata), List.of(item));
  }

  // snippet end

  Schema schema() {
    return new Schema(List.of(field()), shape.isEmpty() ? Map.of("tensor.shape", "[]") : Map.of());
  }

  /** A root with this tensor as its one batch. */
  VectorSchemaRoot root(BufferAllocator allocator) {
    VectorSchemaRoot root = VectorSchemaRoot.create(schema(), allocator);
    load(root, allocator);
    return root;
  }

  // snippet: load
  /** Fills a root of one column with these bytes: one copy, instead of one call an element. */
  void load(VectorSchemaRoot root, BufferAllocator allocator) {
    List<Integer> stored = stored();
    int rows = stored.isEmpty() ? 1 : stored.get(0);
    List<ArrowFieldNode> nodes = new ArrayList<>(List.of(new ArrowFieldNode(rows, 0)));
    List<ArrowBuf> buffers = new ArrayList<>(List.of(allocator.getEmpty())); // no nulls
    if (stored.size() > 1) {
      nodes.add(new ArrowFieldNode(product(stored), 0));
      buffers.add(allocator.getEmpty());
    }
    try (ArrowBuf elements = allocator.buffer(data.length)) {
      elements.writeBytes(data);
      buffers.add(elements);
      try (ArrowRecordBatch batch = new ArrowRecordBatch(rows, nodes, buffers)) {
        new VectorLoader(root).load(batch);
      }
    }
  }

  // snippet end

  // snippet: values
  /** The bytes of a column's elements, however they are nested, little-endian. */
  static byte[] values(FieldVector column) {
    int count = column.getValueCount();
    while (!(column instanceof BaseFixedWidthVector)) {
      if (column instanceof ExtensionTypeVector<?> extension) {
        column = (FieldVector) extension.getUnderlyingVector();
      } else {
        FixedSizeListVector list = (FixedSizeListVector) column;
        count *= list.getListSize();
        column = list.getDataVector();
      }
    }
    byte[] data = new byte[count * ((BaseFixedWidthVector) column).getTypeWidth()];
    column.getDataBuffer().getBytes(0, data);
    return data;
  }

  // snippet end

  boolean same(Tensor other) {
    return dtype.equals(other.dtype) && shape.equals(other.shape) && Arrays.equals(data, other.data);
  }

  @Override
  public String toString() {
    return dtype + shape;
  }

  static List<Integer> shapeOf(String text) {
    try {
      return List.of(Calls.JSON.readValue(text, Integer[].class));
    } catch (JsonProcessingException e) {
      throw new IllegalArgumentException(text, e);
    }
  }

  static int product(List<Integer> shape) {
    return shape.stream().reduce(1, Math::multiplyExact);
  }
}
