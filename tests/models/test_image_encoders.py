"""Image encoders over one vector, a grid's cells or regions: padding, order, neighbours, geometry."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.image_batches import COUNTS, DEPTH, EMBED_DIM, EXTRA, images, regions
from helpers.naive_networks import stirred, transformer
from torch import Tensor, nn

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.sequences import drop_places, grid_geometry, split_cells
from xmodal_cli.regions import REGION_COLUMNS

NAMES = catalog.names("image_encoder")
KINDS = ("global", "grid", "regions")
SMALL = {"transformer": {"width": 128, "dropout": 0.0}}


def encoder(name: str, kind: str = "global", **args) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"image_dim": DEPTH + EXTRA * (kind == "regions"), "embed_dim": EMBED_DIM, "image_kind": kind}
    model: nn.Module = catalog.build("image_encoder", name, {**SMALL.get(name, {}), **args}, **sizes)
    return stirred(model.eval())


def encode(model: nn.Module, features: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(features)


# ---------------------------------------------------------------------------- what every image encoder keeps to


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_image_encoder_maps_features_to_the_joint_space(name, kind):
    model = encoder(name, kind)
    features = images(kind)
    vectors = model(features)
    assert vectors.shape == (len(features), EMBED_DIM)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(model(features.half()), vectors, rtol=1e-2, atol=1e-2)
    if vectors.requires_grad:
        vectors.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_batch_do_not_influence_each_other(name, kind):
    model = encoder(name, kind)
    features = images(kind)
    together = encode(model, features)
    alone = torch.cat([encode(model, features[n : n + 1]) for n in range(len(features))])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)
    others = images(kind, seed=1)
    others[2] = features[2]
    torch.testing.assert_close(encode(model, others)[2], together[2], rtol=1e-5, atol=1e-6)


CASES = [(name, pooling) for name in NAMES for pooling in (catalog.names("pooling") if "pool" in name else [""])]
CASES += [("transformer", pooling) for pooling in catalog.names("pooling")]


@pytest.mark.parametrize(("name", "pooling"), CASES)
def test_rows_without_area_change_nothing(name, pooling):
    """Neither the zeros that a store pads with, nor whatever else stands in a row whose area is 0."""
    model = encoder(name, "regions", **({"pooling": pooling} if pooling else {}))
    features = regions(COUNTS)
    expected = torch.cat([encode(model, features[n : n + 1, :count]) for n, count in enumerate(COUNTS)])
    torch.testing.assert_close(encode(model, features), expected, rtol=1e-5, atol=1e-6)
    wider = torch.cat((features, torch.zeros(len(features), 5, DEPTH + EXTRA)), dim=1)
    torch.testing.assert_close(encode(model, wider), expected, rtol=1e-5, atol=1e-6)
    empty = wider[..., DEPTH + 4] == 0
    wider[empty] = 100 * torch.randn(int(empty.sum()), DEPTH + EXTRA)
    wider[..., DEPTH + 4][empty] = 0
    torch.testing.assert_close(encode(model, wider), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_area_get_no_gradient_and_all_others_some(name):
    model = encoder(name, "regions")
    features = regions(COUNTS).requires_grad_()
    model(features).square().sum().backward()
    held = features[..., DEPTH + 4] > 0
    assert (features.grad[~held] == 0).all()
    assert (features.grad[held][:, :DEPTH].abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_regions_does_not_matter(name):
    model = encoder(name, "regions")
    features = regions(COUNTS)
    order = torch.tensor([4, 6, 0, 2, 5, 1, 3])
    torch.testing.assert_close(encode(model, features[:, order]), encode(model, features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_only_encoders_that_look_at_places_know_the_order_of_a_grids_cells(name):
    model = encoder(name, "grid")
    features = images("grid")
    turned, straight = encode(model, features.flip(1)), encode(model, features)
    if name == "transformer":
        assert not torch.allclose(turned, straight, atol=1e-3)
    else:
        torch.testing.assert_close(turned, straight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_training_and_use_give_the_same_vectors_where_nothing_is_drawn(name, kind):
    model, features = encoder(name, kind), images(kind)
    expected = encode(model, features)
    torch.testing.assert_close(model.train()(features), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_gives_nearly_the_same(name, kind):
    model, features = encoder(name, kind), images(kind)
    expected = encode(model, features)
    with torch.autocast("cpu", torch.bfloat16):
        found = encode(model, features.half())
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_every_image_encoder_can_be_set_to_drop_something_or_has_nothing_to_set(name):
    """Dropout acts in training only."""
    args = {"linear": {"dropout": 0.5}, "pooled": {"dropout": 0.5}, "transformer": {"dropout": 0.5}}.get(name)
    if args is None:
        pytest.skip("it has no settings")
    model, features = encoder(name, "grid", **args), images("grid")
    assert (encode(model, features) == encode(model, features)).all()
    assert not (encode(model.train(), features) == encode(model, features)).all()


# ---------------------------------------------------------------------------- each against what it should be


def test_the_linear_encoder_scales_features_to_unit_length_unless_told_not_to():
    features = images("global")
    scaled, plain = encoder("linear"), encoder("linear", normalize=False)
    torch.testing.assert_close(scaled(features), scaled(7 * features))
    weight, bias = plain.project.weight, plain.project.bias
    torch.testing.assert_close(plain(features), features @ weight.T + bias)
    torch.testing.assert_close(scaled(features), features / features.norm(dim=1, keepdim=True) @ weight.T + bias)


def test_the_linear_encoder_reads_the_mean_of_the_regions():
    model, features = encoder("linear", "regions", normalize=False), regions(COUNTS)
    for vector, rows, count in zip(encode(model, features), features, COUNTS, strict=True):
        torch.testing.assert_close(vector, model.project(rows[:count, :DEPTH].sum(0) / count).detach())


def test_the_pooled_encoder_maps_each_region_and_then_pools():
    model, features = encoder("pooled", "regions", pooling="max", hidden_dim=3), regions(COUNTS)
    for vector, rows, count in zip(encode(model, features), features, COUNTS, strict=True):
        mapped = model.project(rows[:count, :DEPTH]).detach()
        torch.testing.assert_close(vector, torch.stack([column.max() for column in mapped.T]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_transformer_is_the_naive_one_on_each_image_alone(kind, pooling):
    model, features = encoder("transformer", kind, pooling=pooling), images(kind)
    found = encode(model, features)
    model.double()
    side = 1 / 3  # of a cell of the grid of nine
    with torch.inference_mode():
        for image, vector in enumerate(found):
            states = [model.whole[0, 0]]
            held = features[image][: COUNTS[image], :DEPTH] if kind == "regions" else features[image]
            size = held.double().square().mean().sqrt()
            for number, row in enumerate(features[image] if kind != "global" else features[image][None]):
                if kind == "regions" and number >= COUNTS[image]:
                    continue
                x, y = (number % 3) * side, (number // 3) * side
                given = {
                    "global": torch.tensor([0.0, 0, 1, 1, 1]),
                    "grid": torch.tensor([x, y, x + side, y + side, side * side]),
                    "regions": row[DEPTH : DEPTH + 5],
                }[kind]
                cell = row[:DEPTH].double()
                joined = torch.cat((cell / size, given.double()))
                states.append(model.join.weight @ joined + model.join.bias)
            reasoned = transformer(model.layers, torch.stack(states))
            expected = model.project(reasoned[0] if pooling == "first" else reasoned.mean(0))
            torch.testing.assert_close(vector.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_transformer_sees_where_regions_are_and_not_their_score_or_class():
    model, features = encoder("transformer", "regions"), regions([7])
    moved, told = features.clone(), features.clone()
    moved[0, 3, DEPTH : DEPTH + 4] += 0.2
    told[..., DEPTH + 5 :] += 1
    assert not torch.allclose(encode(model, moved), encode(model, features), atol=1e-4)
    torch.testing.assert_close(encode(model, told), encode(model, features))


def test_a_width_that_heads_do_not_divide_is_told():
    with pytest.raises(ConfigError, match="a width that 64 divides, not 100"):
        encoder("transformer", "grid", width=100)


# ---------------------------------------------------------------------------- cells and places


def test_one_vector_is_one_cell_that_is_the_whole_picture():
    features = images("global")
    cells, geometry, mask = split_cells(features, "global")
    assert torch.equal(cells[:, 0], features)
    assert geometry.tolist() == [[[0.0, 0.0, 1.0, 1.0, 1.0]]] * len(features)
    assert mask.tolist() == [[True]] * len(features)


def test_a_grids_cells_are_all_there():
    features = images("grid")
    cells, geometry, mask = split_cells(features, "grid")
    assert torch.equal(cells, features)
    assert geometry.shape == (len(features), 9, 5)
    assert mask.shape == (len(features), 9)
    assert mask.all()


def test_regions_are_taken_apart():
    features = regions(COUNTS)
    cells, geometry, mask = split_cells(features.half(), "regions")
    assert torch.equal(cells, features.half()[..., :DEPTH])
    assert torch.equal(geometry, features.half()[..., DEPTH : DEPTH + 5].float())
    assert mask.sum(1).tolist() == COUNTS
    assert REGION_COLUMNS[:5] == ("x1", "y1", "x2", "y2", "area")


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_places_of_a_square_grid(side):
    expected = [
        [column / side, row / side, (column + 1) / side, (row + 1) / side, 1 / side**2]
        for row, column in itertools.product(range(side), range(side))
    ]
    torch.testing.assert_close(grid_geometry(side * side), torch.tensor(expected))


@pytest.mark.parametrize("num_cells", [2, 6, 50])
def test_cells_that_make_no_square_stand_below_each_other(num_cells):
    expected = [[0.0, n / num_cells, 1.0, (n + 1) / num_cells, 1 / num_cells] for n in range(num_cells)]
    torch.testing.assert_close(grid_geometry(num_cells), torch.tensor(expected))


# ---------------------------------------------------------------------------- places left out


def test_places_are_left_out_at_their_rate_and_the_first_stays():
    torch.manual_seed(0)
    mask = torch.arange(40)[None, :] < torch.randint(1, 41, (2000, 1))
    mask[:500, :3] = False  # the first place is not always 0
    mask[3] = False
    kept = drop_places(mask, 0.3)
    assert not (kept & ~mask).any()
    some = mask.any(1)
    first = mask.int().argmax(1)
    assert kept[torch.arange(2000), first][some].all()
    assert not kept[~some].any()
    others = mask.clone()
    others[torch.arange(2000), first] = False
    dropped = 1 - kept[others].float().mean().item()
    assert dropped == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / int(others.sum())) ** 0.5)


def test_nothing_is_left_out_at_a_rate_of_nothing_and_all_but_the_first_at_one():
    mask = torch.arange(6)[None, :] < torch.tensor([6, 1, 3])[:, None]
    state = torch.get_rng_state()
    assert torch.equal(drop_places(mask, 0.0), mask)
    assert torch.equal(torch.get_rng_state(), state)
    assert drop_places(mask, 1.0).tolist() == [[True] + [False] * 5] * 3


@pytest.mark.parametrize("name", ["pooled", "transformer"])
@pytest.mark.parametrize("kind", ["grid", "regions"])
def test_cells_are_left_out_in_training_only_and_nothing_else_comes_in(name, kind):
    whole = encoder(name, kind)
    dropping = encoder(name, kind, cell_dropout=0.5)
    features = images(kind)[:, :4]
    assert torch.equal(encode(dropping, features), encode(whole, features))
    if kind == "grid":  # as regions in the places of the cells, so that some can be taken away
        features, whole = as_regions(features), whole_of_regions(whole)
        dropping = whole_of_regions(dropping)
    image = features[:1]
    subsets = [(0, *rest) for size in range(4) for rest in itertools.combinations((1, 2, 3), size)]
    possible = torch.cat([encode(whole, image[:, list(subset)]) for subset in subsets])
    drawn = torch.cat([encode(dropping.train(), image) for _ in range(60)])
    nearest = (drawn[:, None] - possible[None]).norm(dim=-1)
    assert (nearest.min(1).values < 1e-4).all()
    assert len(set(nearest.argmin(1).tolist())) > 4


def as_regions(cells: Tensor) -> Tensor:
    places = grid_geometry(cells.shape[1]).expand(len(cells), -1, -1)
    return torch.cat((cells, places, torch.zeros(*cells.shape[:2], 2)), dim=-1)


def whole_of_regions(model: nn.Module) -> nn.Module:
    model.image_kind = "regions"
    return model
