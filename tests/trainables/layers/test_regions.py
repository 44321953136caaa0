import pytest
import torch

from trainables.layers.regions import grid_boxes, grid_locations, with_whole_image


def test_four_cells_are_the_quarters_of_the_image():
    quarters = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    assert grid_boxes(4).tolist() == quarters
    assert grid_locations(4).tolist() == [[0, 0, 1, 1, 1], *([*box, 0.25] for box in quarters)]


def test_one_cell_is_the_whole_image():
    assert grid_locations(1).tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]


@pytest.mark.parametrize("side", [3, 7])
def test_cells_tile_the_image_in_reading_order(side):
    boxes = grid_boxes(side * side)
    sizes = boxes[:, 2:] - boxes[:, :2]
    torch.testing.assert_close(sizes, torch.full_like(sizes, 1 / side))
    torch.testing.assert_close((sizes[:, 0] * sizes[:, 1]).sum(), torch.tensor(1.0))
    torch.testing.assert_close(grid_locations(side * side)[1:, 4], sizes[:, 0] * sizes[:, 1])
    corners = [(round(x * side), round(y * side)) for x, y in boxes[:, :2].tolist()]
    assert corners == [(x, y) for y in range(side) for x in range(side)]  # as a feature map is flattened


def test_cells_that_are_no_square_are_refused():
    with pytest.raises(ValueError, match="5 image tokens form no square grid"):
        grid_boxes(5)


def test_the_first_region_is_the_mean():
    cells = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    assert with_whole_image(cells).tolist() == [[[2.0, 4.0], [1.0, 2.0], [3.0, 6.0]]]
