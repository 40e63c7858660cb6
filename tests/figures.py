"Reads a drawn figure back: what stands in it, where, in which colour, and how well it can be read."
from xml.etree import ElementTree
from matmul_course.tools.figure import INK

SVG = "{http://www.w3.org/2000/svg}"

def luminance(color: str) -> float:
    "The relative luminance of WCAG 2 of a colour \"#rrggbb\", 0 for black to 1 for white: linear light, weighted as the eye weighs it."
    rgb = [int(color[k:k+2], 16) / 255 for k in (1, 3, 5)]
    r, g, b = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
    return 0.2126*r + 0.7152*g + 0.0722*b

def contrast(fg: str, bg: str) -> float:
    "The contrast ratio of WCAG 2 of two colours, 1 for the same to 21 for black on white. Text needs 4.5."
    low, high = sorted([luminance(fg), luminance(bg)])
    return (high + 0.05) / (low + 0.05)

def painted(node, fill=INK):
    "Each element under `node`, in drawing order, with the fill that it has or inherits."
    fill = node.get("fill", fill)
    yield node, fill
    for child in node: yield from painted(child, fill)

def parts(figure, name: str) -> list:
    "The elements called `name` (\"rect\", \"text\", ...) of a figure, in drawing order, each with its fill, inherited or its own."
    found = [(node, fill) for node, fill in painted(ElementTree.fromstring(figure.svg)) if node.tag == SVG + name]
    for node, fill in found: node.set("fill", fill)
    return [node for node, _ in found]

def words(figure) -> list:
    "What is written in a figure, in drawing order."
    return [t.text for t in parts(figure, "text")]

def covers(box, x: float, y: float) -> bool:
    "Whether the <rect> `box` reaches over (x, y)."
    left, top, width, height = [float(box.get(k)) for k in ("x", "y", "width", "height")]
    return left <= x <= left + width and top <= y <= top + height

def middle(word):
    "The middle of a <text>: its y is the baseline, some 4 px lower."
    return float(word.get("x")), float(word.get("y")) - 4

def text_in(figure, box):
    "The text that stands in `box`, a rect from `parts`, or None where there is none."
    return next((t.text for t in parts(figure, "text") if covers(box, *middle(t))), None)

def filled(figure, color: str) -> list:
    "The texts of the cells of one colour, in drawing order."
    return [text_in(figure, r) for r in parts(figure, "rect") if r.get("fill") == color]

def weakest_text(figure) -> tuple:
    """(contrast ratio, text) of the text that is hardest to read on the last filled rectangle that was drawn below it.

    ValueError for a figure without text."""
    below, found = [], []
    for node, fill in painted(ElementTree.fromstring(figure.svg)):
        if node.tag == SVG + "rect" and fill != "none": below.append((node, fill))
        if node.tag != SVG + "text": continue
        under = [color for box, color in below if covers(box, *middle(node))]
        found.append((contrast(fill, under[-1]) if under else 0, node.text))
    return min(found)
