"""Image encoders on one vector, grid cells or regions: padding, order, batches, geometry."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.image_batches import COUNTS, DEPTH, EMBED_DIM, NUM_COLUMNS, images, regions
from helpers.naive_networks import post_norm_transformer, randomize_zeros, transformer
from torch import Tensor, nn

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.sequences import drop_positions, grid_geometry, split_cells
from xmodal_cli.regions import REGION_COLUMNS

NAMES = catalog.names("image_encoder")
KINDS = ("global", "grid", "regions")
SMALL = {
    "transformer": {"width": 128, "dropout": 0.0},
    "post-norm-transformer": {"width": 24, "num_layers": 2, "num_heads": 2, "feed_forward": 40, "dropout": 0.0},
}


def encoder(name: str, kind: str = "global", **args) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"image_dim": DEPTH + NUM_COLUMNS * (kind == "regions"), "embed_dim": EMBED_DIM, "image_kind": kind}
    model: nn.Module = catalog.build("image_encoder", name, {**SMALL.get(name, {}), **args}, **sizes)
    return randomize_zeros(model.eval())


def encode(model: nn.Module, features: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(features)


# ---------------------------------------------------------------------------- the contract of all image encoders


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_image_encoders_map_features_to_the_joint_space(name, kind):
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
def test_images_of_a_batch_are_independent(name, kind):
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
    """Neither the zeros of the feature store nor other values in a row whose area is 0."""
    model = encoder(name, "regions", **({"pooling": pooling} if pooling else {}))
    features = regions(COUNTS)
    expected = torch.cat([encode(model, features[n : n + 1, :count]) for n, count in enumerate(COUNTS)])
    torch.testing.assert_close(encode(model, features), expected, rtol=1e-5, atol=1e-6)
    wider = torch.cat((features, torch.zeros(len(features), 5, DEPTH + NUM_COLUMNS)), dim=1)
    torch.testing.assert_close(encode(model, wider), expected, rtol=1e-5, atol=1e-6)
    empty = wider[..., DEPTH + 4] == 0
    wider[empty] = 100 * torch.randn(int(empty.sum()), DEPTH + NUM_COLUMNS)
    wider[..., DEPTH + 4][empty] = 0
    torch.testing.assert_close(encode(model, wider), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_only_rows_with_area_get_a_gradient(name):
    model = encoder(name, "regions")
    features = regions(COUNTS).requires_grad_()
    model(features).square().sum().backward()
    mask = features[..., DEPTH + 4] > 0
    assert (features.grad[~mask] == 0).all()
    assert (features.grad[mask][:, :DEPTH].abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_regions_does_not_matter(name):
    model = encoder(name, "regions")
    features = regions(COUNTS)
    order = torch.tensor([4, 6, 0, 2, 5, 1, 3])
    torch.testing.assert_close(encode(model, features[:, order]), encode(model, features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_only_encoders_that_use_geometry_depend_on_the_order_of_grid_cells(name):
    model = encoder(name, "grid")
    features = images("grid")
    flipped, original = encode(model, features.flip(1)), encode(model, features)
    if "transformer" in name:
        assert not torch.allclose(flipped, original, atol=1e-3)
    else:
        torch.testing.assert_close(flipped, original, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_training_mode_without_dropout_equals_evaluation_mode(name, kind):
    model, features = encoder(name, kind), images(kind)
    expected = encode(model, features)
    torch.testing.assert_close(model.train()(features), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_close_to_float32(name, kind):
    model, features = encoder(name, kind), images(kind)
    expected = encode(model, features)
    with torch.autocast("cpu", torch.bfloat16):
        actual = encode(model, features.half())
    torch.testing.assert_close(actual.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_acts_in_training_only(name):
    args = {"linear": {"dropout": 0.5}, "pooled": {"dropout": 0.5}, "transformer": {"dropout": 0.5}}
    args["post-norm-transformer"] = {"dropout": 0.5}
    args = args.get(name)
    if args is None:
        pytest.skip("no dropout")
    model, features = encoder(name, "grid", **args), images("grid")
    assert (encode(model, features) == encode(model, features)).all()
    assert not (encode(model.train(), features) == encode(model, features)).all()


# ---------------------------------------------------------------------------- each encoder against its definition


def test_the_linear_encoder_normalizes_features_by_default():
    features = images("global")
    scaled, plain = encoder("linear"), encoder("linear", normalize=False)
    torch.testing.assert_close(scaled(features), scaled(7 * features))
    weight, bias = plain.project.weight, plain.project.bias
    torch.testing.assert_close(plain(features), features @ weight.T + bias)
    torch.testing.assert_close(scaled(features), features / features.norm(dim=1, keepdim=True) @ weight.T + bias)


def test_the_linear_encoder_averages_the_regions():
    model, features = encoder("linear", "regions", normalize=False), regions(COUNTS)
    for vector, rows, count in zip(encode(model, features), features, COUNTS, strict=True):
        torch.testing.assert_close(vector, model.project(rows[:count, :DEPTH].sum(0) / count).detach())


def test_the_pooled_encoder_projects_each_region_and_then_pools():
    model, features = encoder("pooled", "regions", pooling="max", hidden_dim=3), regions(COUNTS)
    for vector, rows, count in zip(encode(model, features), features, COUNTS, strict=True):
        mapped = model.project(rows[:count, :DEPTH]).detach()
        torch.testing.assert_close(vector, torch.stack([column.max() for column in mapped.T]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_transformer_equals_the_naive_one_per_image(kind, pooling):
    model, features = encoder("transformer", kind, pooling=pooling), images(kind)
    actual = encode(model, features)
    model.double()
    side = 1 / 3  # of a cell in the 3 x 3 grid
    with torch.inference_mode():
        for image, vector in enumerate(actual):
            states = [model.whole[0, 0]]
            unpadded = features[image][: COUNTS[image], :DEPTH] if kind == "regions" else features[image]
            scale = unpadded.double().square().mean().sqrt()
            for i, row in enumerate(features[image] if kind != "global" else features[image][None]):
                if kind == "regions" and i >= COUNTS[image]:
                    continue
                x, y = (i % 3) * side, (i // 3) * side
                geometry = {
                    "global": torch.tensor([0.0, 0, 1, 1, 1]),
                    "grid": torch.tensor([x, y, x + side, y + side, side * side]),
                    "regions": row[DEPTH : DEPTH + 5],
                }[kind]
                cell = row[:DEPTH].double()
                joined = torch.cat((cell / scale, geometry.double()))
                states.append(model.join.weight @ joined + model.join.bias)
            outputs = transformer(model.layers, torch.stack(states))
            expected = model.project(outputs[0] if pooling == "first" else outputs.mean(0))
            torch.testing.assert_close(vector.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_post_norm_transformer_equals_the_naive_one_per_image(kind):
    model, features = encoder("post-norm-transformer", kind), images(kind)
    assert [layer.self_attn.num_heads for layer in model.layers.layers] == [2, 2]
    actual = encode(model, features)
    cells, geometry, mask = split_cells(features, kind)
    with torch.inference_mode():
        model.double()
        for vector, rows, boxes, inside in zip(actual, cells, geometry, mask, strict=True):
            joined = torch.cat((rows, boxes), dim=-1)[inside].double()
            states = []
            for row in (torch.zeros(DEPTH + 5, dtype=torch.float64), *joined):
                hidden = (model.join[0].weight @ row + model.join[0].bias).clamp(min=0)
                states.append(model.join[2].weight @ hidden + model.join[2].bias)
            expected = model.project(post_norm_transformer(model.layers, torch.stack(states))[0])
            torch.testing.assert_close(vector.double(), expected, rtol=1e-4, atol=1e-5)


def test_post_norm_layers_equal_those_of_torch_in_training():
    """The paper's code has sequences first; its layers load the same weights."""
    model, features = encoder("post-norm-transformer", "regions").train(), regions(COUNTS)
    states, mask = model.states(features)
    given = model.join(torch.nn.functional.pad(features[..., : DEPTH + 5], (0, 0, 1, 0))).transpose(0, 1)
    for layer in model.layers.layers:
        same = nn.TransformerEncoderLayer(24, 2, 40, 0.0, activation="relu")
        same.load_state_dict(layer.state_dict())
        given = same(given, src_key_padding_mask=~mask)
    torch.testing.assert_close(states[mask], given.transpose(0, 1)[mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"width": 25}, "a multiple of num_heads, 2, not 25"),
        ({"num_heads": 0}, "num_heads must be at least 1, not 0"),
        ({"feed_forward": -1}, "feed_forward must be at least 1, not -1"),
        ({"num_layers": 0}, "num_layers must be at least 1 and at most 1000, not 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
    ],
)
def test_invalid_post_norm_layers_raise(args, sentence):
    with pytest.raises(ConfigError, match=sentence):
        encoder("post-norm-transformer", "grid", **args)


def test_the_transformer_uses_boxes_but_not_scores_or_classes():
    model, features = encoder("transformer", "regions"), regions([7])
    moved, rescored = features.clone(), features.clone()
    moved[0, 3, DEPTH : DEPTH + 4] += 0.2
    rescored[..., DEPTH + 5 :] += 1
    assert not torch.allclose(encode(model, moved), encode(model, features), atol=1e-4)
    torch.testing.assert_close(encode(model, rescored), encode(model, features))


def test_an_invalid_width_raises():
    with pytest.raises(ConfigError, match="a multiple of 64, not 100"):
        encoder("transformer", "grid", width=100)


# ---------------------------------------------------------------------------- cells and geometry


def test_a_global_vector_is_one_cell_that_covers_the_image():
    features = images("global")
    cells, geometry, mask = split_cells(features, "global")
    assert torch.equal(cells[:, 0], features)
    assert geometry.tolist() == [[[0.0, 0.0, 1.0, 1.0, 1.0]]] * len(features)
    assert mask.tolist() == [[True]] * len(features)


def test_all_grid_cells_are_inside_the_mask():
    features = images("grid")
    cells, geometry, mask = split_cells(features, "grid")
    assert torch.equal(cells, features)
    assert geometry.shape == (len(features), 9, 5)
    assert mask.shape == (len(features), 9)
    assert mask.all()


def test_regions_are_split_into_vectors_and_geometry():
    features = regions(COUNTS)
    cells, geometry, mask = split_cells(features.half(), "regions")
    assert torch.equal(cells, features.half()[..., :DEPTH])
    assert torch.equal(geometry, features.half()[..., DEPTH : DEPTH + 5].float())
    assert mask.sum(1).tolist() == COUNTS
    assert REGION_COLUMNS[:5] == ("x1", "y1", "x2", "y2", "area")


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_geometry_of_a_square_grid(side):
    expected = [
        [column / side, row / side, (column + 1) / side, (row + 1) / side, 1 / side**2]
        for row, column in itertools.product(range(side), range(side))
    ]
    torch.testing.assert_close(grid_geometry(side * side), torch.tensor(expected))


@pytest.mark.parametrize("num_cells", [2, 6, 50])
def test_cells_of_a_non_square_grid_form_one_column(num_cells):
    expected = [[0.0, n / num_cells, 1.0, (n + 1) / num_cells, 1 / num_cells] for n in range(num_cells)]
    torch.testing.assert_close(grid_geometry(num_cells), torch.tensor(expected))


# ---------------------------------------------------------------------------- dropped positions


def test_positions_are_dropped_at_the_rate_except_the_first():
    torch.manual_seed(0)
    mask = torch.arange(40)[None, :] < torch.randint(1, 41, (2000, 1))
    mask[:500, :3] = False  # the first position is not always 0
    mask[3] = False
    remaining = drop_positions(mask, 0.3)
    assert not (remaining & ~mask).any()
    nonempty = mask.any(1)
    first = mask.int().argmax(1)
    assert remaining[torch.arange(2000), first][nonempty].all()
    assert not remaining[~nonempty].any()
    others = mask.clone()
    others[torch.arange(2000), first] = False
    dropped = 1 - remaining[others].float().mean().item()
    assert dropped == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / int(others.sum())) ** 0.5)


def test_rate_0_drops_nothing_and_rate_1_all_but_the_first():
    mask = torch.arange(6)[None, :] < torch.tensor([6, 1, 3])[:, None]
    state = torch.get_rng_state()
    assert torch.equal(drop_positions(mask, 0.0), mask)
    assert torch.equal(torch.get_rng_state(), state)
    assert drop_positions(mask, 1.0).tolist() == [[True] + [False] * 5] * 3


@pytest.mark.parametrize("name", ["pooled", "transformer"])
@pytest.mark.parametrize("kind", ["grid", "regions"])
def test_cells_are_dropped_in_training_only(name, kind):
    complete = encoder(name, kind)
    dropping = encoder(name, kind, cell_dropout=0.5)
    features = images(kind)[:, :4]
    assert torch.equal(encode(dropping, features), encode(complete, features))
    if kind == "grid":  # as regions with the geometry of the cells, so that some can be removed
        features, complete = as_regions(features), with_region_input(complete)
        dropping = with_region_input(dropping)
    image = features[:1]
    subsets = [(0, *rest) for size in range(4) for rest in itertools.combinations((1, 2, 3), size)]
    possible = torch.cat([encode(complete, image[:, list(subset)]) for subset in subsets])
    sampled = torch.cat([encode(dropping.train(), image) for _ in range(60)])
    nearest = (sampled[:, None] - possible[None]).norm(dim=-1)
    assert (nearest.min(1).values < 1e-4).all()
    assert len(set(nearest.argmin(1).tolist())) > 4


def as_regions(cells: Tensor) -> Tensor:
    geometry = grid_geometry(cells.shape[1]).expand(len(cells), -1, -1)
    return torch.cat((cells, geometry, torch.zeros(*cells.shape[:2], 2)), dim=-1)


def with_region_input(model: nn.Module) -> nn.Module:
    model.image_kind = "regions"
    return model
