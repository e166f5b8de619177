"""Starts a worker process: chooses the djl_python package, then runs its engine.

A djl_python that the user has installed comes first; it speaks the same protocol. Otherwise the
package that lies beside this file, in `builtin`, is used. The server passes DJL Serving's arguments;
those that an installed release does not know are left out.
"""

import importlib
import importlib.util
import os
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
BUILTIN = os.path.join(HERE, "builtin")


def end_with_the_server():
    """Ends this process when the server does: its end of standard input closes then.

    Handlers see an empty standard input. The variable is not passed on, so that processes which the
    handler starts are not bound by it.
    """
    who = os.environ.pop("SCONCE_WATCH_STDIN", None)
    # Of ranks that mpirun starts, the first has its standard input; the others have an empty one.
    if who is None or (who == "first" and os.environ.get("OMPI_COMM_WORLD_RANK") != "0"):
        return
    watched = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def wait():
        while os.read(watched, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="server-watch", daemon=True).start()


def use_builtin():
    """Makes the built-in package importable, here and in Python processes started from here."""
    sys.path.append(BUILTIN)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [before, BUILTIN]))


def installed():
    """The main function of an installed djl_python; None if there is none that can be used."""
    if importlib.util.find_spec("djl_python") is None:
        return None
    import djl_python

    place = os.path.dirname(os.path.abspath(djl_python.__file__ or ""))
    version = getattr(djl_python, "__version__", "of an unknown version")
    if importlib.util.find_spec("djl_python_engine") is not None:
        print(f"INFO::djl_python {version} of {place} is used", flush=True)
        leave_out_unknown_arguments()
        return importlib.import_module("djl_python_engine").main
    print(
        f"WARNING::djl_python {version} of {place} comes without djl_python_engine; "
        "the built-in package is used instead",
        flush=True)
    for name in [n for n in sys.modules if n.split(".")[0] == "djl_python"]:
        del sys.modules[name]
    sys.path.insert(0, BUILTIN)
    return None


def leave_out_unknown_arguments():
    """Keeps of the arguments those that the installed release knows."""
    from djl_python.arg_parser import ArgParser

    known = ArgParser.python_engine_args()._option_string_actions
    kept = sys.argv[:1]
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        takes_value = argument not in ("--async-mode", "--no-async-mode")
        value = [next(arguments)] if takes_value else []
        if argument in known:
            kept += [argument, *value]
    sys.argv = kept


def main():
    end_with_the_server()
    if sys.path and os.path.abspath(sys.path[0]) == HERE:
        del sys.path[0]
    run = installed()
    if run is None:
        use_builtin()
        from djl_python.engine import main as run
    run()


if __name__ == "__main__":
    main()
    sys.exit(1)
