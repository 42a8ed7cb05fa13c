"""What a cluster asks of the workflow beside its profile: guards before the first job, and a check of the site."""

from evomix.cluster import guard


onstart:
    if workflow.non_local_exec:
        try:
            guard.require_no_key()
            guard.require_no_jobs(Path.cwd())
        except UserError as error:
            raise WorkflowError(str(error)) from None
