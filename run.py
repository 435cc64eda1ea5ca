"""Prepare a package: ``python run.py [GROUP=OPTION ...] [GROUP.SETTING=VALUE ...]``; see --help."""

import sys

if __name__ == "__main__":
    try:
        from hms.terminal import begin_program, end_quietly

        begin_program()  # before anything that takes long is imported
        from hms.main import main

        code = main()
        end_quietly()
    except KeyboardInterrupt:
        print("hms: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
