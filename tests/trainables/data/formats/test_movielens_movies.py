"""Releases and pictures are tested in test_movielens.py; this is the copy for the contract suite."""

from disk import classes, write_files

from trainables.data.formats import movielens_movies


def write(folder):
    """Forty films of ml-latest, some without a genre."""
    lines = [
        f"{at},Film {at} ({1950 + at}),{('Drama', 'Comedy|Drama', '(no genres listed)')[at % 3]}" for at in range(40)
    ]
    write_files(
        folder,
        {
            "movies.csv": "movieId,title,genres\n" + "\n".join(lines) + "\n",
            "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.5,9\n",
        },
    )


def test_films_without_a_genre_are_not_labelled(tmp_path):
    write(tmp_path)
    table = movielens_movies.read(str(tmp_path))
    assert classes(table)[:3] == [{"Drama"}, {"Comedy", "Drama"}, None]
    assert [table.split.tolist().count(name) for name in ("train", "val", "test")] == [32, 4, 4]
    assert table.numeric[:, 0].tolist() == [1950 + at for at in range(40)]
