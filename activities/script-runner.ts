import { TASK_VARIABLE } from '../contracts/external-trainer.ts';

/**
 * The Python program, for `python -c`, that runs a script as `python SCRIPT …` does, and spends the time until its task
 * is there on the imports that the script begins with.
 *
 * Imported ahead is only what the script would import before it does anything else, and of that what is installed: its
 * own modules may read the task. What cannot be imported is left for the script to fail at. Tracebacks begin in the script.
 */
export const SCRIPT_RUNNER = `
def run():
    import ast, importlib, importlib.util, os, sys, sysconfig, time

    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.realpath(script))
    with open(script, "rb") as file:
        source = file.read()
    installed = tuple(os.path.realpath(sysconfig.get_path(kind)) + os.sep for kind in ("stdlib", "platstdlib", "purelib", "platlib"))

    def ahead():
        for node in ast.parse(source, script).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                return
            for name in names:
                spec = importlib.util.find_spec(name.split(".")[0])
                if spec is None or spec.origin is None:
                    return
                if spec.origin in ("built-in", "frozen") or os.path.realpath(spec.origin).startswith(installed):
                    importlib.import_module(name)
                else:
                    return

    try:
        ahead()
    except Exception:
        pass
    task = os.environ["${TASK_VARIABLE}"]
    while not os.path.exists(task):
        time.sleep(0.005)

    shown = sys.excepthook

    def show(kind, error, trace):
        own = trace.tb_next.tb_next if trace and trace.tb_next else trace
        shown(kind, error.with_traceback(own), own)

    sys.excepthook = show
    main = sys.modules["__main__"].__dict__
    code = compile(source, script, "exec", dont_inherit=True)
    builtins = main["__builtins__"]
    main.clear()
    main.update(__name__="__main__", __file__=script, __builtins__=builtins, __doc__=None, __package__=None, __spec__=None, __loader__=None, __cached__=None)
    exec(code, main)

run()
`;
