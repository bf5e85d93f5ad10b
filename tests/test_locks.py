"""Claims of processes on pieces of work."""

import multiprocessing

from maskfeat_plugin.locks import Claims


def take(path, numbers, answers):
    claims = Claims(path)
    answers.put([claims.take(number) for number in numbers])
    claims.close()


def asked_by_another_process(path, *numbers):
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=take, args=(path, numbers, answers))
    process.start()
    process.join()
    return answers.get()


def test_claims(tmp_path):
    path = tmp_path / "folder" / "claims"
    claims = Claims(path)
    large = 2**48
    assert claims.take(0) and claims.take(large)
    assert asked_by_another_process(path, 0, 1, large, large + 1) == [False, True, False, True]
    claims.give_back(large)
    assert asked_by_another_process(path, 0, 1, large) == [False, True, True]  # the process that held 1 has ended
    claims.close()
    assert asked_by_another_process(path, 0) == [True]
