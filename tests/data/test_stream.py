import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from wholescene.data import SampleStream
from wholescene.data.keyed import Purpose, keyed_generator
from wholescene.data.stream import ShardedBatches
from wholescene.errors import InputError


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_the_ranks_take_every_sample_once(num: int, size: int, world: int) -> None:
    streams = [SampleStream(num, size, rank=rank, world=world) for rank in range(world)]
    taken = [index for stream in streams for batch in stream for index in batch]
    assert sorted(taken) == list(range(num * size * world))


@given(st.integers(1, 4), st.integers(1, 4))
def test_samples_come_in_the_same_order_for_any_world(size: int, world: int) -> None:
    streams = [list(SampleStream(3, size, rank=rank, world=world)) for rank in range(world)]
    for step, batches in enumerate(zip(*streams, strict=True)):
        first = step * size * world
        assert sorted(itertools.chain(*batches)) == list(range(first, first + size * world))


@pytest.mark.parametrize("start", range(8))
def test_a_stream_continues_where_another_run_stopped(start: int) -> None:
    whole = SampleStream(3, 2)
    expected = [list(batch) for _ in range(4) for batch in whole]
    later = SampleStream(3, 2, start=start)
    found = [list(batch) for _ in range(4) for batch in later]
    assert found == expected[start:] + [[2 * b, 2 * b + 1] for b in range(12, (start // 3 + 4) * 3)]


def test_epochs_of_a_trainer_do_not_move_a_resumed_stream_back() -> None:
    stream = SampleStream(10, 1, start=13)
    stream.set_epoch(0)  # a trainer that counts its epochs anew
    assert [batch[0] for batch in stream] == list(range(13, 20))
    stream.set_epoch(1)
    assert [batch[0] for batch in stream] == list(range(20, 30))
    stream.set_epoch(7)
    assert next(iter(stream))[0] == 70


def test_asking_again_without_taking_the_last_batch_gives_the_same() -> None:
    stream = SampleStream(4, 2)
    first = list(itertools.islice(stream, 3))
    assert list(itertools.islice(stream, 3)) == first
    # A loader that takes exactly as many batches as there are never asks for the end.
    assert len(list(itertools.islice(stream, 4))) == 4
    assert next(iter(stream))[0] == 8


def test_a_negative_start_is_refused() -> None:
    with pytest.raises(InputError, match="cannot start at batch -1"):
        SampleStream(4, 2, start=-1)


def test_trainers_see_that_the_batches_are_sharded_already() -> None:
    assert isinstance(ShardedBatches(2, 2), DistributedSampler)


def test_numbers_differ_by_seed_index_purpose_and_attempt() -> None:
    def draw(
        seed: int = 1, index: int = 2, attempt: int = 0, purpose: Purpose = Purpose.WINDOW
    ) -> float:
        return keyed_generator(seed, index, purpose=purpose, attempt=attempt).random()

    drawn = [draw(), draw(seed=2), draw(index=3), draw(attempt=1), draw(purpose=Purpose.NOISE)]
    assert len(set(drawn)) == 5
    assert draw() == drawn[0]
    assert (
        pickle.loads(pickle.dumps(keyed_generator(1, 2, purpose=Purpose.WINDOW))).random()
        == drawn[0]
    )
