"""The confusion matrix and the worst mistakes, by hand."""

import base64
import io
from xml.etree import ElementTree

import numpy as np
import pytest

from minet import MeanSquaredError, MinetError, Net, SoftmaxCrossEntropy
from minet.data import Dataset
from minet.layers import Identity, Softmax
from minet.report import classes
from minet.report.classes import answers, section

SCORES = np.log(
    [[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.05, 0.9, 0.05], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]]
).astype(np.float32)
LABELS = [0, 1, 2, 2, -1]


def asked(scores=SCORES, labels=LABELS, names=("cat", "dog", "<b>"), graph=None):
    """What a net that returns its input says."""
    data = Dataset(scores[:, :, None, None], labels, classes=names, name="a & b")
    return answers(Net(graph or [Identity()], (3, 1, 1), 2, SoftmaxCrossEntropy()), data), data


def parsed(html):
    root = ElementTree.fromstring(f"<main>{html}</main>")
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def test_answers_by_hand():
    found, _ = asked()
    assert found.images.tolist() == [0, 1, 2, 3]  # the last one's label is not known
    assert found.said.tolist() == [0, 0, 1, 2]
    np.testing.assert_allclose(found.sure, [0.7, 0.5, 0.9, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.chance, [0.7, 0.4, 0.05, 0.8], rtol=1e-6)
    assert found.counts.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]


def test_a_net_that_ends_in_a_softmax_gives_the_same():
    found, _ = asked(np.exp(SCORES), graph=[Identity()])
    softened, _ = asked(SCORES, graph=[Softmax()])
    np.testing.assert_allclose(softened.chance, asked()[0].chance, rtol=1e-6)
    assert not np.allclose(found.chance, softened.chance)


def test_the_matrix_and_the_pictures():
    root = parsed(section(*asked()))
    cells = [(rect.get("class"), rect.findtext("title")) for rect in root.iter("rect") if rect.get("class")]
    assert cells == [
        ("right", "cat for cat: 1"), ("wrong", "dog for cat: 1"),
        ("wrong", "<b> for dog: 1"), ("right", "<b> for <b>: 1"),
    ]  # fmt: skip
    texts = [text.text for text in root.iter("text")]
    assert [text for text in texts if "%" in text] == ["100.0 %", "0.0 %", "50.0 %"]
    told = "".join(root.itertext())
    assert "2 of 4 images of a & b are taken for another class (50.00 %)" in told
    assert "Most often: dog for cat (1), <b> for dog (1)." in told
    captions = ["".join(caption.itertext()) for caption in root.iter("figcaption")]
    assert captions == [
        "<b>, taken for dog: 90.0\u00a0%, not 5\u00a0%",
        "dog, taken for cat: 50.0\u00a0%, not 40\u00a0%",
    ]
    for picture in root.iter("img"):
        kind, _, code = picture.get("src").partition(",")
        assert kind == "data:image/png;base64" and base64.b64decode(code).startswith(b"\x89PNG")


def test_the_pictures_are_those_of_the_mistakes():
    from matplotlib.image import imread

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (3, 1, 4, 4)).astype(np.uint8)
    data = Dataset(pixels, [0, 1, 0], name="noise")
    found = classes.Answers(
        np.array([0, 2]), np.array([0, 0]), np.array([0, 1]), np.ones(2), np.array([1, 0.0]), ["0", "1"]
    )
    (picture,) = parsed(section(found, data)).iter("img")
    shown = imread(io.BytesIO(base64.b64decode(picture.get("src").partition(",")[2])))[..., 0]
    values = pixels[2, 0].astype(float)
    expected = (values - values.min()) / (values.max() - values.min())
    np.testing.assert_allclose(shown, expected, atol=0.005)


def test_without_mistakes_it_says_so():
    told = "".join(parsed(section(*asked(labels=[0, 0, 1, 2, 0]))).itertext())
    assert "None: each image is taken for what it is." in told and "Most often" not in told


@pytest.mark.parametrize("count", [30, 150, 201])
def test_many_classes(count):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, count, 1, 1)).astype(np.float32)
    data = Dataset(scores, rng.integers(0, count, 300), classes=count, name="many")
    found = answers(Net([Identity()], (count, 1, 1), 7, SoftmaxCrossEntropy()), data)
    root = parsed(section(found, data))
    assert len(list(root.iter("figure"))) == classes.MISTAKES
    assert bool(list(root.iter("rect"))) == (count <= classes.MOST)
    assert not [text for text in root.iter("text") if text.get("class") == "count"]


def test_what_has_no_classes_is_refused():
    data = Dataset(SCORES[:, :, None, None], SCORES, name="targets")
    with pytest.raises(MinetError, match="does not tell classes apart"):
        answers(Net([Identity()], (3, 1, 1), 2, MeanSquaredError()), data)
    with pytest.raises(MinetError, match="no image of none has a label"):
        unknown = Dataset(SCORES[:, :, None, None], [-1] * 5, classes=3, name="none")
        answers(Net([Identity()], (3, 1, 1), 2, SoftmaxCrossEntropy()), unknown)


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(MinetError, match="outputs are not finite"):
        asked(graph=[_Infinite()])


class _Infinite(Identity):
    def fprop(self, x, y, beta=0.0, train=True):
        y[...] = np.nan
