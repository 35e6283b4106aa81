"""A Flight server that is PyArrow's C++ one and a dictionary: the peer an unmodified client is compared against."""

import pyarrow.flight as flight


class Server(flight.FlightServerBase):
    """Keeps what is put under the descriptor's command; a ticket with the same JSON `key` returns it."""

    def __init__(self):
        super().__init__("grpc://127.0.0.1:0")
        self.tables = {}

    def do_put(self, context, descriptor, reader, writer):
        self.tables[key_of(descriptor.command)] = reader.read_all()
        writer.write(b"{}")

    def do_get(self, context, ticket):
        return flight.RecordBatchStream(self.tables[key_of(ticket.ticket)])


def key_of(command):
    # No JSON parser: the peer should not pay for our contract.
    return bytes(command).split(b'"key": "', 1)[1].split(b'"', 1)[0]


if __name__ == "__main__":
    server = Server()
    print(f"ready 127.0.0.1:{server.port}", flush=True)
    server.serve()
