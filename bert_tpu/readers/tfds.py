"""TensorFlow Datasets: text, one example a document, `tfds:wikipedia/20230601.en`, and tables, `tfds:glue/rte`.

A name may have a query: `tfds:pg19?feature=book_text&split=train&data_dir=gs://bucket/tfds`. The defaults are the
feature `text`, the split `train`, and the folder in the environment variable TFDS_DATA_DIR.
"""

from collections.abc import Iterator
import contextlib
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple
import urllib.parse

from bert_tpu.core import command

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

PREFIX = "tfds:"
REASON_CHARS = 200  # of an error of the library


class Query(NamedTuple):
    """The part of a data set to read."""

    feature: str = "text"
    split: str = "train"
    data_dir: str | None = None


def find(name: str) -> tuple[str, int]:
    """(full name with version and query, size in bytes) of a data set that is prepared."""
    builder, query = _open(name)
    config = f"/{builder.builder_config.name}" if builder.builder_config else ""
    options = {key: value for key, value in query._asdict().items() if value != getattr(Query(), key)}
    words = f"?{urllib.parse.urlencode(options, safe='/:')}" if options else ""
    return f"{PREFIX}{builder.name}{config}:{builder.version}{words}", int(builder.info.dataset_size)


def texts(name: str) -> Iterator[bytes]:
    """The feature of every example of the split, in the order of its files. Reads it as a stream.

    Raises UserError if a file is damaged, or if the split has another number of examples than its metadata says.
    """
    import tensorflow_datasets as tfds

    builder, query = _open(name)
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    decoders = tfds.decode.PartialDecoding({query.feature: True})
    with _refusing_damage(name):
        data = builder.as_dataset(split=query.split, shuffle_files=False, read_config=config, decoders=decoders)
        for example in tfds.as_numpy(data):
            yield example[query.feature]


def is_prepared(name: str) -> bool:
    """True if a data set of this name is prepared."""
    try:
        _find(name)
    except command.UserError:
        return False
    return True


def tables(name: str, features: tuple[str, ...]) -> dict[str, dict[str, list[Any]]]:
    """{split: {feature: values}}, rows in the order of the files. Text is a str, a class is its name.

    A row without a class (-1 in TensorFlow Datasets) has None. Raises UserError if a feature is missing or a file is
    damaged.
    """
    builder, query = _find(name)
    import tensorflow_datasets as tfds

    if (query.feature, query.split) != (Query().feature, Query().split):
        raise command.UserError(f"{name}: a task accepts only data_dir after the ?; correct the name")
    if missing := [feature for feature in features if feature not in builder.info.features]:
        raise command.UserError(f"{name} has no feature {missing[0]!r} but {', '.join(builder.info.features)}")
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    decoders = tfds.decode.PartialDecoding(dict.fromkeys(features, True))
    columns: dict[str, dict[str, list[Any]]] = {}
    with _refusing_damage(name):
        for feature in features:
            _check_class_names(builder, feature)
        for split in builder.info.splits:
            data = builder.as_dataset(split=split, shuffle_files=False, read_config=config, decoders=decoders)
            columns[split] = {feature: [] for feature in features}
            for batch in data.ragged_batch(1000):
                for feature in features:
                    ragged = hasattr(batch[feature], "to_list")
                    values = batch[feature].to_list() if ragged else batch[feature].numpy().tolist()
                    columns[split][feature] += [_plain(value, builder.info.features[feature]) for value in values]
    return columns


def _check_class_names(builder: "DatasetBuilder", feature: str) -> None:
    """Raises ValueError if the file of a feature's class names has other names than the library has read.

    The library takes numbers as names if it cannot use the file.
    """
    kind = builder.info.features[feature]
    if not hasattr(kind, "get_names_filepath"):
        return
    path = kind.get_names_filepath(builder.data_dir, feature)
    names = [line.strip() for line in path.read_text().splitlines() if line.strip()] if path.exists() else kind.names
    if names != kind.names or len(names) != kind.num_classes:
        raise ValueError(f"{path} has {len(names)} names for {kind.num_classes} classes")


@contextlib.contextmanager
def _refusing_damage(name: str) -> Iterator[None]:
    """Raises UserError for any error of the library, which fails in many ways on a damaged file."""
    try:
        yield
    except command.UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # which a command reports in its own sentence
            raise
        words = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(error).partition("\n")[0]) or type(error).__name__
        reason = " ".join(words.split())[:REASON_CHARS]
        raise command.UserError(
            f"{name} is damaged or incomplete ({reason}): prepare it again by `tfds build`"
        ) from None


def _plain(value: Any, feature: Any) -> Any:
    """A value of TensorFlow Datasets as a Python value."""
    if isinstance(value, list):
        return [_plain(item, feature.feature) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if hasattr(feature, "int2str"):
        return feature.int2str(value) if value >= 0 else None
    return value


def _open(name: str) -> tuple["DatasetBuilder", Query]:
    """(builder, Query) of a text source. Raises UserError if it has no such split, or no such feature of text."""
    builder, query = _find(name)
    import tensorflow_datasets as tfds

    splits, features = builder.info.splits, builder.info.features or {}
    if query.split not in splits:
        raise command.UserError(f"{name} has no split {query.split!r} but {', '.join(splits)}")
    if query.feature not in features or not isinstance(features[query.feature], tfds.features.Text):
        strings = [key for key, kind in features.items() if isinstance(kind, tfds.features.Text)]
        known = f"write ?feature= and one of {', '.join(strings)}" if strings else "name a data set of plain text"
        raise command.UserError(f"{name} has no feature {query.feature!r} of text: {known}")
    return builder, query


def _find(name: str) -> tuple["DatasetBuilder", Query]:
    """(builder, Query) of a prepared data set. Raises UserError if there is none."""
    plain, _, words = name.removeprefix(PREFIX).partition("?")
    try:
        query = Query(**dict(urllib.parse.parse_qsl(words, strict_parsing=True)) if words else {})
    except (TypeError, ValueError):
        known = ", ".join(Query._fields)
        raise command.UserError(f"{name}: after the ? write KEY=VALUE, joined by &, with the keys {known}") from None
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise command.UserError(f"{name} needs tensorflow_datasets: pip install tensorflow-datasets") from None
    advice = "check the name and TFDS_DATA_DIR, or prepare it by `tfds build`"
    # Read here, because the library reads the variable only when it is imported.
    directory = query.data_dir or os.environ.get("TFDS_DATA_DIR")
    with _refusing_damage(name):
        try:
            builder = tfds.builder(plain, data_dir=directory, try_gcs=False)
            splits = builder.info.splits
        except (tfds.core.registered.DatasetNotFoundError, AssertionError):
            raise command.UserError(f"there is no data set {name}; {advice}") from None
        except ValueError as error:
            if "BuilderConfig" not in str(error):  # the only mark of a name without such a config
                raise
            raise command.UserError(f"there is no data set {name}; {advice}") from None
    if not splits:
        raise command.UserError(f"{name} is not on this machine; {advice}")
    return builder, query
