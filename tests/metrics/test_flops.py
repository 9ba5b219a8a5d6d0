"""Floating-point operations of products that PyTorch has no formula for, counted by hand."""

import torch
from torch import nn

from mla_lightning.metrics.flops import StepFlops


def test_flops_of_products_that_pytorch_has_no_formula_for():
    def count(run):
        with StepFlops() as counter:
            run()
        return counter.get_total_flops(), counter.uncounted

    x = [torch.randn(2, 4, 7, 8, requires_grad=True) for _ in range(3)]
    attend = nn.functional.scaled_dot_product_attention
    product = 2 * 2 * 4 * 7 * 7 * 8
    assert count(lambda: attend(*x)) == (2 * product, set())
    assert count(lambda: attend(*x).sum().backward()) == (7 * product, set())
    layer, sequence = nn.LSTM(6, 5, batch_first=True), torch.randn(2, 3, 6, requires_grad=True)
    step = 2 * 2 * 3 * (20 * 6 + 20 * 5)
    assert count(lambda: layer(sequence)) == (step, set())
    assert count(lambda: layer(sequence)[0].sum().backward()) == (3 * step, set())
    query, value = torch.randn(1, 2, 3, 4, requires_grad=True), torch.randn(1, 2, 5, 4)
    scores_and_mean = 2 * (2 * 2 * 3 * 5 * 4)  # 3 queries and 5 keys, of width 4, in 2 heads
    assert count(lambda: attend(query, value, value)) == (scores_and_mean, set())
    matrix, one, other = torch.randn(3, 4), torch.randn(4), torch.randn(3)
    assert count(lambda: torch.addmv(other, matrix, one)) == (2 * 12, set())
    assert count(lambda: torch.mv(matrix, one)) == (2 * 12, set())
    assert count(lambda: torch.addr(matrix, other, one)) == (2 * 12, set())
    assert count(lambda: torch.dot(one, one)) == (2 * 4, set())


def test_uncounted_operations_are_named_and_a_pause_counts_nothing():
    norm, x = nn.BatchNorm1d(4), torch.randn(6, 4)
    with StepFlops() as counter:
        norm(x)
        torch.linalg.eigh(torch.eye(3))
        (x * 2 + 1).relu().sum().item()
        with counter.paused():
            with counter.paused():
                x @ x.T
            x @ x.T
            torch.linalg.svd(x)
    assert counter.get_total_flops() == 0
    assert {name for name in counter.uncounted if "batch_norm" not in name} == {"_linalg_eigh"}
    assert len(counter.uncounted) == 2
