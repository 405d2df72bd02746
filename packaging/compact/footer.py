"""Pure reading of the footer of a Parquet file: key-value metadata, number of rows, and
where the chunks of a column are. Saves the start of DuckDB where there is nothing to do."""

MAGIC = b"PAR1"


def length(tail):
    """Returns the length of the footer, with its 8 bytes of length and magic, from the last
    8 bytes or more of a file. Raises ValueError if it is not a Parquet file."""
    if len(tail) < 8 or tail[-4:] != MAGIC:
        raise ValueError("it is not a Parquet file")
    return int.from_bytes(tail[-8:-4], "little") + 8


def parse(footer):
    """Returns (rows, {key: value}, {column: [(start, end), ...]}) of a whole footer."""
    try:
        meta = _Thrift(footer[:-8]).struct()
        values = {pair[1].decode(): pair.get(2, b"").decode() for pair in meta.get(5, [])}
        columns = {}
        for group in meta.get(4, []):
            for chunk in group[1]:
                about = chunk[3]
                start = min(about[9], about.get(11) or about[9])
                columns.setdefault(b".".join(about[3]).decode(), []).append((start, start + about[7]))
        return meta[3], values, columns
    except (LookupError, UnicodeDecodeError, TypeError, AttributeError, RecursionError) as err:
        raise ValueError("its footer is damaged") from err


class _Thrift:
    """The compact protocol of Thrift: a struct is {field id: value}."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def number(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def text(self):
        size = self.varint()
        if self.at + size > len(self.data):
            raise IndexError
        self.at += size
        return self.data[self.at - size:self.at]

    def value(self, kind):
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self.byte()
        if kind in (4, 5, 6):
            return self.number()
        if kind == 7:
            if self.at + 8 > len(self.data):  # a list can claim to have any number of these
                raise IndexError
            self.at += 8
            return None
        if kind == 8:
            return self.text()
        if kind in (9, 10):
            head = self.byte()
            size = head >> 4 if head >> 4 < 15 else self.varint()
            of = head & 15
            return [self.byte() == 1 if of in (1, 2) else self.value(of) for _ in range(size)]
        if kind == 12:
            return self.struct()
        raise LookupError(kind)

    def struct(self):
        fields, field = {}, 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.number()
            fields[field] = self.value(head & 15)
        return fields
