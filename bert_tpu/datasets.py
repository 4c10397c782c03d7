"""TensorFlow Datasets as a text source: `tfds:wikipedia/20230601.en`, one example a document."""

from collections.abc import Iterator
import os

from bert_tpu import command

PREFIX = "tfds:"


def find(name: str) -> tuple[str, int]:
    """The name, version included, of a data set on this machine, and its size in bytes."""
    builder = _builder(name)
    config = f"/{builder.builder_config.name}" if builder.builder_config else ""
    full = f"{PREFIX}{builder.name}{config}:{builder.version}"
    return full, int(builder.info.dataset_size)


def texts(name: str) -> Iterator[bytes]:
    """The feature `text` of every example of the training split, in the order of its files."""
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    data = _builder(name).as_dataset(split="train", shuffle_files=False, read_config=config)
    for example in tfds.as_numpy(data):
        yield example["text"]


def _builder(name: str):
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise command.UserError(f"{name} needs tensorflow_datasets; pip install it") from None
    mend = "check the name and TFDS_DATA_DIR, or prepare it by `tfds build`"
    try:
        # Read here, because the library reads the variable only when it is imported.
        directory = os.environ.get("TFDS_DATA_DIR")
        builder = tfds.builder(name.removeprefix(PREFIX), data_dir=directory, try_gcs=False)
    except (tfds.core.registered.DatasetNotFoundError, AssertionError, ValueError):
        raise command.UserError(f"there is no data set {name}; {mend}") from None
    if "train" not in builder.info.splits:
        raise command.UserError(f"{name} is not on this machine; {mend}")
    if "text" not in (builder.info.features or ()):
        raise command.UserError(f"{name} has no feature `text`; name a data set of plain text")
    return builder
