import io.trino.hive.formats.compression.CompressionKind;
import io.trino.hive.formats.line.Column;
import io.trino.hive.formats.line.LineBuffer;
import io.trino.hive.formats.line.LineDeserializer;
import io.trino.hive.formats.line.LineDeserializerFactory;
import io.trino.hive.formats.line.json.JsonDeserializerFactory;
import io.trino.hive.formats.line.openxjson.OpenXJsonDeserializerFactory;
import io.trino.hive.formats.line.text.TextLineReader;
import io.trino.spi.PageBuilder;
import io.trino.spi.block.Block;
import io.trino.spi.type.VarcharType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;

/**
 * Reads objects as Trino reads the files of a table:
 *
 * <pre>java Read FORMAT COLUMN,COLUMN... FILE...</pre>
 *
 * Every column is a varchar. Prints a line for each line of the files: the columns, each in base64
 * with = before it, or empty if null; or ! and why the line can't be read.
 */
class Read {
    public static void main(String[] args) throws IOException {
        LineDeserializerFactory format = switch (args[0]) {
            case "JSON" -> new JsonDeserializerFactory();
            case "OPENX_JSON" -> new OpenXJsonDeserializerFactory();
            default -> throw new IllegalArgumentException(args[0]);
        };
        List<Column> columns = new ArrayList<>();
        for (String name : args[1].split(",")) {
            columns.add(new Column(name, VarcharType.VARCHAR, columns.size()));
        }
        LineDeserializer lines = format.create(columns, Map.of());
        for (int i = 2; i < args.length; i++) {
            read(args[i], lines);
        }
    }

    private static void read(String name, LineDeserializer lines) throws IOException {
        var codec = CompressionKind.forFile(name).orElseThrow().createCodec();
        try (var file = TextLineReader.createCompressedReader(Files.newInputStream(Path.of(name)), 8192, codec)) {
            LineBuffer line = new LineBuffer(1024, 100 << 20); // Trino's own limit
            while (file.readLine(line)) {
                PageBuilder page = new PageBuilder(lines.getTypes());
                try {
                    lines.deserialize(line, page);
                } catch (IOException e) {
                    System.out.println("!" + e.getMessage());
                    continue;
                }
                StringBuilder row = new StringBuilder();
                for (int column = 0; column < lines.getTypes().size(); column++) {
                    row.append(column == 0 ? "" : " ").append(text(page.build().getBlock(column)));
                }
                System.out.println(row);
            }
        }
    }

    private static String text(Block block) {
        return block.isNull(0) ? "" : "=" + Base64.getEncoder().encodeToString(VarcharType.VARCHAR.getSlice(block, 0).getBytes());
    }
}
