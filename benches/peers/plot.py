"""The picture of a run: tokens per second, and time between tokens, against the number of streams.

Needs matplotlib (`pip install matplotlib`); without it there is no picture, and a message.
"""
import sys

from report import Results, all_streams, at

try:
    import matplotlib
except ImportError:
    matplotlib = None
    print("# no pictures: matplotlib is not there (pip install matplotlib)", file=sys.stderr)

COLOURS = {
    "sconce": "#d1462f", "llama.cpp": "#2f6db3", "OpenVINO GenAI": "#3d8f5f", "vLLM": "#8a56ac",
    "transformers": "#b0862b", "CTranslate2": "#6b6b6b", "ONNX Runtime GenAI": "#3aa3a3",
}
DASHES = {32: (7, 2), 16: "", 8: (3, 1.5), 4: (1, 1.2), 4.5: (4, 1, 1, 1)}


def draw(result, path):
    """Writes the picture; None where there is nothing to draw or nothing to draw it with."""
    results = Results(result)
    streams = all_streams(results)
    if len(streams) < 2 or not matplotlib:
        return None
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "peers", "font.size": 9})
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
    panels = ((axes[0], "rate", 1, "tokens per second, all streams"),
              (axes[1], "gap_p50", 1e3, "ms between tokens, median"))
    for axis, name, scale, label in panels:
        for key in results.measured():
            points = [(n, results.middle(key, at(n, name))) for n in streams]
            points = [(n, value * scale) for n, value in points if value]
            if not points:
                continue
            engine = results.engines[key]
            ours = engine["peer"] == "sconce"
            axis.plot(*zip(*points), label=engine["name"], color=COLOURS.get(engine["peer"], "black"),
                      marker="o" if engine["batches"] else "x", markersize=4 if ours else 3, linewidth=2.2 if ours else 1.2,
                      dashes=DASHES.get(engine["bits"], ""), zorder=3 if ours else 2)
        axis.set_xscale("log", base=2)
        axis.set_xticks(streams, [str(n) for n in streams])
        axis.set_xlabel("streams")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path
