"""Run a file in tflite-runtime: ``python run_old.py MODEL INPUT.npy OUTPUT.npy``, on raw tensors.

For the environment of ``make old-runtime``; the input's size need not be the one that the file declares.
"""

import sys


def run(model: str, given: str, result: str) -> None:
    """Resize, run, save."""
    import numpy as np
    from tflite_runtime.interpreter import Interpreter

    tensor = np.load(given)
    interpreter = Interpreter(model)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, tensor.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, tensor)
    interpreter.invoke()
    np.save(result, interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


if __name__ == "__main__":
    run(*sys.argv[1:])
