"""`python -m lets_runner`, and the console script `lets-train`: Ctrl-C is a line, from the first moment on."""

import signal

from lets_runner import interrupt


def main() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # or somebody wants it ignored
        signal.signal(signal.SIGINT, interrupt.leave)
    try:
        from lets_runner import cli  # a matter of seconds

        cli.main()
    except KeyboardInterrupt:
        interrupt.leave()


if __name__ == "__main__":
    main()
