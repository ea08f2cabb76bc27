"""Models, optimizers and runs that are copied, pickled and saved, as checkpoints and averages of weights do."""

from __future__ import annotations

from conftest import Server
from programs import Job, compare


def test_copies_of_a_watched_model_and_its_optimizer(server: Server) -> None:
    source = """
        import copy, io, pickle

        training = Training()
        state_before = pickle.dumps(training.optimizer.state_dict())
        run = training.begin()
        assert pickle.dumps(training.optimizer.state_dict()) == state_before
        training.train(run, 5)

        model, optimizer = copy.deepcopy((training.model, training.optimizer))
        # The copies train on by themselves, and nobody watches.
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 16)).sum().backward()
            optimizer.step()

        saved = io.BytesIO()
        torch.save(training.model, saved)
        torch.save(training.optimizer, io.BytesIO())
        saved.seek(0)
        loaded = torch.load(saved, weights_only=False)
        for ours, theirs in zip(training.model.parameters(), loaded.parameters()):
            assert torch.equal(ours, theirs)
        assert pickle.loads(pickle.dumps(training.optimizer)).state_dict().keys() == training.optimizer.state_dict().keys()

        state = training.optimizer.state_dict()
        print(sorted(state), sorted(vars(training.model)))
        training.optimizer.load_state_dict(state)
        training.train(run, 5)
        run.finish()
        training.save()
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    assert job.steps == list(range(1, 11))


def test_a_model_that_holds_its_run(server: Server) -> None:
    """An average of weights copies the model with all it holds: the copy of the run is the same run. One from a file is inert."""
    source = """
        import copy, io

        class Holder(nn.Module):
            def __init__(self, run, model):
                super().__init__()
                self.run, self.model = run, model

        training = Training()
        run = training.begin()
        holder = Holder(run, training.model)
        training.train(run, 5)
        copied = copy.deepcopy(holder)
        copied.run.log({"copied": 1.0})
        saved = io.BytesIO()
        if WATCHED:
            torch.save(holder, saved)
            saved.seek(0)
            loaded = torch.load(saved, weights_only=False)
            loaded.run.log({"loaded": 1.0})
            loaded.run.watch(loaded.model, training.optimizer)
            loaded.run.finish()
            assert copied.run is run and copy.copy(run) is run
        training.train(run, 5)
        run.finish()
        training.save()
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    assert {name for scalars in job.scalars.values() for name in scalars} == {"loss", "copied"}


def test_copies_of_a_model_that_instruments_look_at(server: Server) -> None:
    source = """
        import copy, io

        X = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))

        def sample_losses(model):
            model.eval()
            return functional.cross_entropy(model(X), X[:, :4].argmax(-1), reduction="none")

        def mean_loss(model):
            return sample_losses(model).mean()

        training = Training()
        run = training.init()
        instruments = []
        if WATCHED:
            import gradwatch
            instruments = [
                gradwatch.Cascade(every=3, whole=True),
                gradwatch.Curvature("0.weight", loss=mean_loss, directions=2, every=3),
                # One: while its spectra are computed beside training, another would be left out, and said so.
                gradwatch.DeadDirections("0", loss=sample_losses, every=1000),
                gradwatch.LearningCell("0", "3", every=3),
            ]
        training.watch(run, instruments=instruments)
        for _ in range(4):
            training.train(run, 5)
            copied = copy.deepcopy(training.model)
            copied(X).sum().backward()
            saved = io.BytesIO()
            torch.save(training.model, saved)
            saved.seek(0)
            torch.load(saved, weights_only=False)(X).sum().backward()
        print(sorted(training.model.state_dict()), [sorted(module._forward_hooks) for module in training.model])
        run.finish()
        training.save()
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    assert job.steps == list(range(1, 21))
    for instrument in ("cascade", "curvature", "dead_directions", "learning_cell"):
        assert server.readings(job.run_id, instrument)
