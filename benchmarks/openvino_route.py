"""int8 for OpenVINO: the U8S8 ONNX graph against NNCF's settings, on training images.

Needs `pip install nncf`.  Writes results/openvino_route.json.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import record

from compress import zoo
from compress.data.bicubic import downscale
from compress.data.images import list_images, read_rgb
from compress.evaluate import modcrop, score, to_uint8
from export import formats, tiling
from export.artifact import Card, ExportSpec
from export.policy import QuantPolicy
from export.receptive_field import radius


def main() -> None:
    import nncf
    import openvino
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    data = record.need_shared()
    network = zoo.load("span", data / "weights/sr/span/spanx4_ch48_deploy_fp16rounded.pth")
    halo = radius(network.module, 3, 4)
    images = list_images(data / "sr/train/BSDS200_jpg_first100")
    lr = [downscale(modcrop(read_rgb(p), 4), 4)[:64, :64].astype(np.float32) / 255 for p in images[:60]]
    judged = [modcrop(read_rgb(p), 4) for p in images[60:75]]
    numbers: dict[str, object] = {}

    def judge(title: str, path: Path, seconds: float) -> None:
        session = formats.open_file(path, 2)
        values = []
        for hr in judged:
            x = downscale(hr, 4).astype(np.float32) / 255
            values.append(score(to_uint8(tiling.enlarge(session, x, 4, halo)), hr, 4).psnr)
        numbers[title] = {"psnr": round(float(np.mean(values)), 3), "seconds": round(seconds, 1)}
        print(title, numbers[title])

    minmax = RangeEstimatorParametersSet.MINMAX
    ranges = {"activations_range_estimator_params": minmax, "weights_range_estimator_params": minmax}
    settings = {
        "NNCF, defaults": {},
        "NNCF, min-max ranges": {"advanced_parameters": AdvancedQuantizationParameters(**ranges)},
        "NNCF, min-max, no bias correction": {
            "advanced_parameters": AdvancedQuantizationParameters(**ranges, disable_bias_correction=True)
        },
        "NNCF, mixed preset, min-max": {
            "preset": nncf.QuantizationPreset.MIXED,
            "advanced_parameters": AdvancedQuantizationParameters(**ranges),
        },
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plain = ExportSpec(network.module, Card("span", 4, 3, halo, "float32"), (180, 320))
        formats.write("openvino", plain, folder, "float32")
        judge("float32", folder / "float32.xml", 0.0)
        start = time.monotonic()
        ours = ExportSpec(network.module, Card("span", 4, 3, halo, "int8"), (180, 320), QuantPolicy(), lr)
        formats.write("openvino", ours, folder, "int8")
        judge("ONNX U8S8, per channel (ours)", folder / "int8.xml", time.monotonic() - start)
        feed = [np.ascontiguousarray(x.transpose(2, 0, 1)[None]) for x in lr]
        for number, (title, values) in enumerate(settings.items()):
            start = time.monotonic()
            model = openvino.Core().read_model(str(folder / "float32.xml"))
            quantized = nncf.quantize(model, nncf.Dataset(feed), subset_size=len(feed), **values)
            openvino.save_model(quantized, str(folder / f"nncf{number}.xml"), compress_to_fp16=False)
            judge(title, folder / f"nncf{number}.xml", time.monotonic() - start)
    record.write("openvino_route", numbers, seed=0)


if __name__ == "__main__":
    main()
