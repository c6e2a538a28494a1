"""What other programs read of a trace.mcap: Foxglove's own library, and rerun's loader.

    pip install mcap mcap-protobuf-support pillow rerun-sdk
    python tests/interop/trace.py FILE

Prints every topic with its schema, count, first and last message as Foxglove's Python library decodes them, and the
metadata. Then rerun, if it is installed, loads the file: every topic has to become an entity with as many rows, every
component a number that a selector (what its plots ask with) finds, equal to the other library's, every picture an
image, every line a text. Ends with a status of 1 if something disagrees.
"""

import argparse
import io
import struct
import sys
from collections import defaultdict
from importlib.metadata import version

from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from PIL import Image

PICTURE, TEXT = "foxglove.CompressedImage", "foxglove.Log"


class Topic:
    """A topic's messages, decoded."""

    def __init__(self, schema: str):
        self.schema = schema
        self.times = []
        self.messages = []

    def fields(self) -> list[str]:
        return [field.name for field in self.messages[0].DESCRIPTOR.fields]

    def show(self, index: int) -> str:
        """A message in a line, with its time."""
        message = self.messages[index]
        if self.schema == PICTURE:
            picture = Image.open(io.BytesIO(message.data))
            picture.load()
            told = f"{picture.format} {picture.width}x{picture.height}"
        elif self.schema == TEXT:
            told = repr(message.message)
        else:
            told = ", ".join(f"{name} {getattr(message, name)}" for name in self.fields())
        return f"{self.times[index] / 1e9:.3f} s  {told}"


def read(path: str) -> tuple[dict[str, Topic], list[str]]:
    """Every message by topic, and what is wrong with the file."""
    wrong = []
    topics = {}
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        if summary is None or summary.statistics is None or not summary.chunk_indexes:
            return {}, ["no summary with statistics and indexes"]
        for schema, channel, message, decoded in reader.iter_decoded_messages():
            topic = topics.setdefault(channel.topic, Topic(schema.name))
            topic.times.append(message.log_time)
            topic.messages.append(decoded)
        for channel in summary.channels.values():
            counted = summary.statistics.channel_message_counts.get(channel.id, 0)
            found = len(topics[channel.topic].times) if channel.topic in topics else 0
            if counted != found:
                wrong.append(f"{channel.topic}: {found} messages, and the summary says {counted}")
        metadata = [(record.name, dict(record.metadata)) for record in reader.iter_metadata()]
        print(f"{path}: {reader.get_header().library}; {summary.statistics.message_count} messages in "
              f"{len(summary.chunk_indexes)} chunks, {len(summary.schemas)} schemas, {len(metadata)} metadata records")
    for name, topic in sorted(topics.items()):
        print(f"{name}  {topic.schema}  {len(topic.times)} messages")
        print(f"  first {topic.show(0)}\n  last  {topic.show(-1)}")
        for message, time in zip(topic.messages, topic.times):
            if topic.schema in (PICTURE, TEXT) and message.timestamp.ToNanoseconds() != time:
                wrong.append(f"{name}: a stamp of {message.timestamp} at {time} ns")
    for name, values in metadata:
        print(f"metadata {name}: {values}")
    return topics, wrong


def bits(values) -> list[bytes]:
    """Doubles as bytes, so that NaN equals NaN. Adding 0 drops the sign of -0, as rerun does."""
    return [struct.pack("<d", value + 0.0) for value in values]


def flat(column) -> list:
    """What a column's rows hold, one list after the other."""
    return [value for row in column.to_pylist() for value in row]


def rerun_loads(path: str, topics: dict[str, Topic]) -> list[str]:
    """What is wrong with rerun's idea of the file."""
    from rerun.chunk import McapReader

    rows = defaultdict(list)
    for chunk in McapReader(path).stream():
        if not chunk.is_static and not chunk.entity_path.startswith("/__mcap"):
            rows[chunk.entity_path].append(chunk)
    wrong = []
    for name, topic in sorted(topics.items()):
        # An entity's path has backslashes before what is no letter, digit, hyphen, underscore or dot.
        chunks = rows.pop(next((path for path in rows if path.replace("\\", "") == name), name), [])
        if sum(chunk.num_rows for chunk in chunks) != len(topic.times):
            wrong.append(f"rerun: {name} has {sum(chunk.num_rows for chunk in chunks)} rows")
        elif topic.schema in (PICTURE, TEXT):
            component = "EncodedImage:blob" if topic.schema == PICTURE else "TextLog:text"
            got = [value for chunk in chunks for value in flat(chunk.to_record_batch().column(component))]
            sent = [list(m.data) if topic.schema == PICTURE else m.message for m in topic.messages]
            if [list(value) if topic.schema == PICTURE else value for value in got] != sent:
                wrong.append(f"rerun: {name} has other contents")
        else:
            component = f"{topic.schema}:message"
            for field in topic.fields():
                sent = [getattr(message, field) for message in topic.messages]
                got = []
                for chunk in chunks:
                    got += flat(chunk.apply_selector(component, f".{field}").to_record_batch().column(component))
                if not isinstance(sent[0], float):
                    sent, got = ([value for array in arrays for value in array] for arrays in (sent, got))
                if bits(got) != bits(sent):
                    wrong.append(f"rerun: {name}.{field} has other numbers")
    wrong += [f"rerun: {path} is no topic" for path in rows]
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    path = parser.parse_args().file
    print(f"mcap {version('mcap')}, mcap-protobuf-support {version('mcap-protobuf-support')}")
    topics, wrong = read(path)
    try:
        print(f"rerun-sdk {version('rerun-sdk')}", end=": ")
        theirs = rerun_loads(path, topics)
        print("loads all of it" if not theirs else "differs")
        wrong += theirs
    except ImportError:
        print("rerun-sdk is not installed")
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
