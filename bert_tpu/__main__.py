"""The command bert-tpu where its script is not on PATH: python -m bert_tpu COMMAND."""

from bert_tpu.cli import main

if __name__ == "__main__":
    main.main()
