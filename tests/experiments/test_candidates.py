"""The candidates: each without what is new in it, and the rule by which one would be kept."""

from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from experiments.candidates.__main__ import main
from experiments.candidates.encoders import SideBySide, narrow_cnns
from experiments.candidates.methods import (
    Heads,
    Members,
    MembersHead,
    MembersMLA,
    OneRight,
    Paired,
    Together,
    divergence,
)
from experiments.candidates.report import candidates_report
from tests.methods.harness import WIDTH, Linear, batches, build, fit
from tests.report.synthetic_runs import change, write_run
from torch.nn import functional as F

from mla_lightning.config import plan
from mla_lightning.encoders import SmallCNN
from mla_lightning.errors import RunError
from mla_lightning.fusion import LateFusion as LateHeads
from mla_lightning.fusion import SharedHead
from mla_lightning.methods import MLA, LateFusion
from mla_lightning.report.document.table import p_text
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.read.significance import holm

CONF = Path(__file__).parents[2] / "experiments/candidates/conf"
REFERENCES = ("concat", "late_fusion", "joint_unimodal", "mla", "ensemble")


def members(number):
    def encoder():
        return SideBySide([Linear() for _ in range(number)])

    return encoder


def trained(method, fusion=LateHeads, *, encoder=Linear, num_modalities=2, epochs=2, **options):
    data = batches(4, num_modalities)
    module = build(method, fusion, data, encoder=encoder, **options)
    losses = fit(module, data, epochs=epochs)
    state = {k: x for k, x in module.state_dict().items() if k.startswith(("encoders", "fusion"))}
    return module, losses, state


@pytest.mark.parametrize(
    ("method", "encoder", "options"),
    [
        (Members, members(1), {"members": 1}),
        (Heads, Linear, {"shared": False}),
        (Paired, Linear, {"weight": 0.0}),
        (OneRight, Linear, {"weight": 0.0}),
        (Together, Linear, {"weight": 0.0}),
    ],
)
def test_without_what_is_new_each_is_late_fusion(method, encoder, options):
    _, _, plain = trained(LateFusion)
    _, _, state = trained(method, encoder=encoder, **options)
    for (key, x), (_, expected) in zip(state.items(), plain.items(), strict=True):
        torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize(
    ("method", "encoder", "options"),
    [
        (Members, members(2), {}),
        (Heads, Linear, {}),
        (Heads, Linear, {"joint": True}),
        (Paired, Linear, {}),
        (Paired, Linear, {"within": True}),
        (OneRight, Linear, {}),
        (Together, Linear, {}),
    ],
)
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_each_trains_and_differs_from_late_fusion(method, encoder, options, num_modalities):
    data = batches(1, num_modalities, seed=7)[0]
    usual = {"num_modalities": num_modalities, "epochs": 10}
    plain, _, _ = trained(LateFusion, **usual)
    module, losses, _ = trained(method, encoder=encoder, **usual, **options)
    totals = [sum(of_batch.values()) for of_batch in losses]
    assert sum(totals[-4:]) < sum(totals[:4])
    logits = module.eval().outputs(data)
    assert logits.keys() == plain.outputs(data).keys()
    assert not torch.allclose(logits["multi"], plain.eval().outputs(data)["multi"], atol=1e-3)


def test_one_member_per_modality_is_mla_itself():
    options = {"projection": "class_means"}
    plain, _, expected = trained(MLA, SharedHead, **options)
    head = partial(MembersHead, members=1)
    module, _, state = trained(MembersMLA, head, encoder=members(1), **options)
    for (key, x), (_, value) in zip(state.items(), expected.items(), strict=True):
        torch.testing.assert_close(x, value, rtol=1e-5, atol=1e-6, msg=key)
    data = batches(1, seed=7)[0]
    found, other = module.eval().outputs(data), plain.eval().outputs(data)
    torch.testing.assert_close(found["multi"], other["multi"], rtol=1e-4, atol=1e-5)


def test_a_member_step_uses_its_own_encoder_and_the_one_head():
    module, losses, _ = trained(
        MembersMLA, MembersHead, encoder=members(2), projection="class_means"
    )
    assert list(losses[0]) == ["audio/0", "visual/0", "audio/1", "visual/1"]
    assert module.fusion.head.in_features == WIDTH
    data = batches(1, seed=7)[0]
    features = module.features(data)
    own = module.fusion.unimodal(features)["audio"]
    parts = [module.fusion.head(h) for h in features["audio"].chunk(2, dim=1)]
    torch.testing.assert_close(own, sum(parts) / 2)


def test_members_answer_the_mean_of_their_own_logits():
    module, _, _ = trained(Members, encoder=members(2))
    data = batches(1, seed=7)[0]
    features = module.features(data)
    head = module.fusion.heads["audio"]
    first, second = features["audio"].split(WIDTH, dim=1)
    left, right = head.weight.split(WIDTH, dim=1)
    expected = ((first @ left.T + head.bias) + (second @ right.T + head.bias)) / 2
    torch.testing.assert_close(module.outputs(data)["audio"], expected)


def test_pairs_are_told_by_the_cosines_of_both_directions():
    data = batches(1)
    module = build(Paired, LateHeads, data, weight=2.0)
    (losses,) = fit(module, data)
    fresh = build(Paired, LateHeads, data, weight=2.0)
    z = [F.normalize(fresh.maps[m](h), dim=1) for m, h in fresh.features(data[0]).items()]
    cosine = torch.stack([(z[0][i] * z[1]).sum(dim=1) for i in range(len(z[0]))]) / 0.2
    rows = -cosine.log_softmax(dim=1).diagonal().mean()
    columns = -cosine.log_softmax(dim=0).diagonal().mean()
    assert losses["pair/audio+visual"] == pytest.approx((rows + columns).item(), rel=1e-5)


def test_only_the_wrong_modality_learns_from_the_right_one():
    logits = {"audio": torch.tensor([[2.0, 0.0], [2.0, 0.0]]), "visual": torch.zeros(2, 2)}
    logits["visual"] = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    label = torch.tensor([0, 1])  # both are right on the first, visual alone on the second
    data = batches(1)
    module = build(OneRight, LateHeads, data)
    module.fusion.unimodal = lambda features: logits
    batch = {**data[0], "label": label}
    found = {}
    module.step_on = lambda batch, losses_of: found.update(losses_of(batch))
    module.features = lambda batch: {}
    module.fit_batch(batch)
    expected = divergence(logits["audio"], logits["visual"], 2.0)[1] / 2
    assert float(found["audio of visual"]) == pytest.approx(float(expected))
    assert float(found["visual of audio"]) == 0.0


def test_the_teacher_is_an_average_that_the_optimiser_leaves_alone():
    module, _, _ = trained(Together)
    trained_ids = {id(p) for p in module.trained_parameters()}
    assert not trained_ids & {id(p) for p in module.teacher.parameters()}
    assert int(module.num_batches) == 8
    own = module.encoders["audio"][0].weight
    assert not torch.equal(module.teacher["encoders"]["audio"][0].weight, own)


def multiplications(node, side=32):
    """Count the multiplications of an encoder on one sample, from its config."""
    if "widths" in node:
        total = 0
        for before, after in pairwise((node["in_channels"], *node["widths"])):
            side //= 2
            total += 9 * before * after * side**2
        return total
    if "hidden" in node:
        return node["in_features"] * node["hidden"] + node["hidden"] * node["out_features"]
    return 0  # a sum of embeddings


@pytest.mark.parametrize("data", ["openmoji", "tuxstamps", "avdigits", "mfeat"])
def test_two_narrow_encoders_cost_about_what_one_does(data):
    narrow = yaml.safe_load((CONF / f"encoder/narrow_{data}.yaml").read_text())
    (job,) = plan([f"data={data}"])
    wide = {name: dict(node) for name, node in job.config["encoder"].items()}
    assert narrow.keys() == wide.keys()
    for node in wide.values():
        if "SmallCNN" in node["_target_"]:
            node["widths"] = [16, 32, node["out_features"]]
    pair = 2 * sum(map(multiplications, narrow.values()))
    assert pair == pytest.approx(sum(map(multiplications, wide.values())), rel=0.12)
    assert {node["members"] for node in narrow.values()} == {2}
    assert (
        len({(node.get("widths") or [node["out_features"]])[-1] for node in narrow.values()}) == 1
    )


def test_narrow_networks_are_those_of_the_package_but_for_their_widths():
    narrow = narrow_cnns(3, members=2, widths=[11, 23, 45])
    assert narrow(torch.rand(2, 3, 32, 32)).shape == (2, 90)
    alike = narrow_cnns(3, members=1, widths=[16, 32, 64])
    package = SmallCNN(3)
    assert [p.shape for p in alike.parameters()] == [p.shape for p in package.parameters()]
    package.load_state_dict(
        {key.replace("members.0.", ""): x for key, x in alike.state_dict().items()}
    )
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(alike(image), package(image))


def write(root, method, level, *, dataset, name, spread=0.4):
    for seed in range(6):
        value = (level + spread * (seed % 3 - 1) + 0.1 * seed) / 100
        accuracy = {"image": 0.4, "text": 0.5, "multi": value}
        folder = root / name.replace("/", "-")
        write_run(folder, method, seed, dataset=dataset, name=name, accuracy=accuracy)


@pytest.mark.parametrize(
    ("levels", "better", "worse", "is_kept"),
    [
        ((66, 66, 60), "openmoji, tuxstamps", "none", True),
        ((66, 60, 60), "openmoji", "none", False),
        ((66, 66, 57), "openmoji, tuxstamps", "digits", False),
    ],
)
def test_it_is_kept_if_better_than_all_on_two_sets_and_worse_on_none(
    tmp_path, levels, better, worse, is_kept
):
    for dataset, level in zip(("openmoji", "tuxstamps", "digits"), levels, strict=True):
        write(tmp_path, "mine", level, dataset=dataset, name=f"asked/{dataset}", spread=0.9)
        for method in REFERENCES:
            write(tmp_path, method, 60, dataset=dataset, name=f"asked/{dataset}")
    report = candidates_report(read_runs([tmp_path]))
    assert report.texts["answer.md"] == (
        f"- mine is significantly better than each of the references on {better}, and "
        f"significantly worse than one of them on {worse}: it is {'' if is_kept else 'not '}kept "
        "as a method.\n"
    )
    rows = [row for section in report.tables[-1].sections for row in section.rows]
    assert len(rows) == 15
    shown = [row.cells[3].text for row in rows]  # corrected over all sets and references
    answers = report.figures["candidates"].args[1]
    assert shown == [p_text(p) for p in holm([answer.comparison.p for answer in answers])]


def test_what_is_significant_counts_however_small_it_is(tmp_path):
    for dataset in ("openmoji", "tuxstamps"):
        of_set = {"dataset": dataset, "name": f"asked/{dataset}"}
        write(tmp_path, "mine", 60.5, **of_set, spread=0.05)
        for method in REFERENCES:
            write(tmp_path, method, 60, **of_set, spread=0.01)
    for result in tmp_path.rglob("result.json"):
        change(result.parent, "result.json", num_test=50_000)  # the margin is one point
    report = candidates_report(read_runs([tmp_path]))
    assert {a.verdict for a in report.figures["candidates"].args[1]} == {"slightly better"}
    assert report.texts["answer.md"].endswith(
        "on openmoji, tuxstamps, and significantly worse than one of them on none: it is kept as a "
        "method.\n"
    )


def test_the_choice_is_shown_beside_the_answer(tmp_path, capsys):
    write(tmp_path, "mine", 66, dataset="openmoji", name="choice/openmoji")
    write(tmp_path, "late_fusion", 60, dataset="openmoji", name="choice/openmoji")
    assert main([str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    assert "The choice: validation accuracy" in capsys.readouterr().out
    with pytest.raises(RunError, match="make candidates"):
        candidates_report([])


def test_the_question_is_about_one_candidate(tmp_path):
    for method in ("mine", "other", "concat"):
        write(tmp_path, method, 66, dataset="openmoji", name="asked/openmoji")
    with pytest.raises(RunError, match="about one candidate, and there are mine, other"):
        candidates_report(read_runs([tmp_path]))
